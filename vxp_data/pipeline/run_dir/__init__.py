"""The run directory: its files, its lock, and tables read from it."""
