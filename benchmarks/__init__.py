"""Measures onionmpc. Nothing in onionmpc imports this."""
