"""Public datasets: what we know of each, and how its annotation files become our manifests."""
