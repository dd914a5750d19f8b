"""The rules of `core.filters` that come with the package, by what they look at."""
