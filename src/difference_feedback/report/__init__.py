"""Reports: one self-contained HTML page for a run, or for several runs side by side."""

from difference_feedback.report.page import write_report

__all__ = ["write_report"]
