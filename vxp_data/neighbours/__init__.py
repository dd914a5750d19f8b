"""Nearest neighbours among many vectors."""
