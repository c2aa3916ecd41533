"""A policy run: train, evaluate, keep wrong answers."""
