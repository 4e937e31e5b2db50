"""Results folders: annotations, manifest and shards, written and read back."""
