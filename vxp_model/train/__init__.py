"""Training: the loop, its engine, its checkpoints."""
