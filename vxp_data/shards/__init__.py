"""Reading and writing of tar shards; what they hold is in `vxp_data.shard_format`."""
