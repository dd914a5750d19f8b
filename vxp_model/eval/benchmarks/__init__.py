"""One benchmark per file: its questions, how they are put, how answers are read and scored."""
