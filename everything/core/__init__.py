"""Records and geometry: what prompts, masks and segments are, in which units and frames."""
