"""Moves bytes between streams and links; handed a Network, never knows which."""
