"""Training of the Video-XL-Pro language model on visual tokens."""
