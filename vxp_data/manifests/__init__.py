"""One annotation format per file: rows in, the same rows out."""
