"""Networks that samplers use: they find boxes, masks or points without prompts."""
