"""Folders on disk and buckets: where files live, and who may write there."""
