"""The repair model: ask one, train one, measure one."""
