"""Recipes and their checks, run folders, JSON Lines."""
