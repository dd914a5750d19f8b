"""From shards to batches: order, plans, frames, and the exact position to go on from."""
