"""From embeddings to decisions: scores, filters, near-duplicates, decontamination, thresholds."""
