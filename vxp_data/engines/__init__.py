"""What runs stage functions over many files: this machine, or a cluster."""
