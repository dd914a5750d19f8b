"""From kept rows to frame plans, shards and exports."""
