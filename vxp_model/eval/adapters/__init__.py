"""Models that benchmarks ask: ours, transformers', and files of answers made elsewhere."""
