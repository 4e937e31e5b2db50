"""The page that shows masks, and overlays."""
