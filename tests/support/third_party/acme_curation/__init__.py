"""A package as a stranger would write it: one part for each of some registries."""
