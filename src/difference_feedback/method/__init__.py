"""The paper: token ids and rewards in, weights and losses out. Imports numpy, torch and rapidfuzz, and no host."""
