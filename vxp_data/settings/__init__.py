"""Typed, frozen settings; YAML recipes, overrides, and where each value comes from."""
