"""Recipes as YAML files: each holds only what differs from the defaults."""
