"""Operation definitions of the tensor form, one family per file."""
