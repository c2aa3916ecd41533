"""A web page on which people repair wrong answers and review the auditor's verdicts."""
