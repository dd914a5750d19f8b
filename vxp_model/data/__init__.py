"""From shards to batches: order, plans, frames, and the exact place to go on from."""
