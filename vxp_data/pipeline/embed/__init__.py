"""From media files to embeddings: what is to be read, the job on Ray, checks before it."""
