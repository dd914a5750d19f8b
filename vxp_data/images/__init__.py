"""Images made of frames."""
