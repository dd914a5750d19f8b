"""Pure torch: vision tower, token compressor, masking, decoder, projector."""
