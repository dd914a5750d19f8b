"""One file a layout of annotations: pure functions from a row of it to annotations."""
