"""Pictures made of frames."""
