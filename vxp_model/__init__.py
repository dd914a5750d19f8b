"""Train on the shards that `vxp_data` writes."""

__version__ = "0.1.0"
