"""A nano VLM that runs the whole method on a laptop."""

from difference_feedback.nano.base import load_base
from difference_feedback.nano.model import build

__all__ = ["build", "load_base"]
