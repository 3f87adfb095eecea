"""The restricted stand-in for pickle: a peer's message can carry data, never code."""
