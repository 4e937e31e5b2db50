"""The embedded default model: a boundary network and the region tree of its contours."""
