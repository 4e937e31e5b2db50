"""Builders of the variants' networks."""
