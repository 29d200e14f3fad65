"""Ways to reach a node or a probe pod."""
