"""A tor of our own: its program, torrc, profile and process."""
