"""The commands of `vxp-data`, by what they work on."""
