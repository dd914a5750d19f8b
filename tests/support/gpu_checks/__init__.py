"""What the GPU tests measure, as functions of a device and sizes: tiny ones run on any CPU."""
