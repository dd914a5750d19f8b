"""The method as pure functions: numpy in, numpy out; no files, no clock, no Ray, no torch."""
