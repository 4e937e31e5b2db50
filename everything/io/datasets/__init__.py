"""Ground truth of others: COCO, LVIS, SA-1B and label maps."""
