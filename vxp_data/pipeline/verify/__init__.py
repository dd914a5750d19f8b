"""Checks of what runs and shards hold, against what they say."""
