"""From names and settings to objects."""
