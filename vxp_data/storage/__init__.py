"""Where bytes lie: atomic writes and content digests."""
