"""The records of the bundled variants and those that are downloaded, by family."""
