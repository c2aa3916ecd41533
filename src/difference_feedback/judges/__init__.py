"""Who says whether an answer is right."""
