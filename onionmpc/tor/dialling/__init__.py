"""Dialling an onion address."""
