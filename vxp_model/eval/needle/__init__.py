"""Needle in a haystack: drawn films and needles, trials, the selector's survival, heat maps."""
