"""Answers about long videos, in bounded memory."""
