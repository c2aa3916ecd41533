"""A vision-language model in hand: load, adapt, generate, count operations."""
