"""From media files to embeddings: what is to be read, the stages, checks before it."""
