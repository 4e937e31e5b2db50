"""Networks of samplers: they find boxes, masks or points without prompts."""
