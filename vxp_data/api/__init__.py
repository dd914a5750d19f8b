"""The Python API: what `vxp_data` offers under its own name, by the same calls as the commands."""
