"""Networks that samplers bring along: they find boxes, masks or points without being asked."""
