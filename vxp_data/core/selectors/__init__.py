"""Selectors: which rows of a subset are taken first, told from all of its rows together."""
