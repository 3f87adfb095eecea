"""Moves bytes between streams and links, over any Network."""
