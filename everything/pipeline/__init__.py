"""One image, from pixels to segments."""
