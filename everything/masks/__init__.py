"""The masks of an image: as logits, as segments, drawn, and in the forms that other tools take."""
