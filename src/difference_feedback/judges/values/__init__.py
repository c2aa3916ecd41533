"""Read a final answer as a value (a number, a list, a date, ...) and compare two values."""
