"""One image encoder per file, behind one Protocol."""
