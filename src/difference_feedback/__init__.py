"""Difference Feedback: process-level supervision for vision-language models from outcome rewards alone."""

__version__ = "0.1.0"
