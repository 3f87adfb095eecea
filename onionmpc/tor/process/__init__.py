"""A tor of our own: its program, its torrc, its profile, its process."""
