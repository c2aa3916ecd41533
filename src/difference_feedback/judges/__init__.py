"""Judges: they decide whether an answer is right and whether a repair is honest."""
