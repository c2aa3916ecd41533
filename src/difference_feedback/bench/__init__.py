"""Comparison at matched compute: plans, cells, statistics, and the evidence made from their results."""
