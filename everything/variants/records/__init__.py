"""The records of all variants, by family."""
