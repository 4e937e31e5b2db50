"""Jobs: a folder of images labelled on this machine or on Ray, and how far they are."""
