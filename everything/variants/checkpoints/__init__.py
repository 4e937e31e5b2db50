"""Checkpoint files: found, downloaded, cached, read, and their keys mapped."""
