"""ReCoT pre-training of the token compressor."""
