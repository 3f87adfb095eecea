"""Dialling onion addresses."""
