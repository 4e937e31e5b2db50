"""Folders on disk and buckets: where files are stored, and which job may write there."""
