"""A web page where people repair wrong answers and review the auditor's verdicts."""
