"""Curate video for training: probe, embed, score, prune, account for every row."""

__version__ = "0.1.0"
