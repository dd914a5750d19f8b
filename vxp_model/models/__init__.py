"""Whole models, their presets, and their files."""
