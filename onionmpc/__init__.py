"""Multiparty computation between parties who never learn each other's IP address."""

__version__ = "0.1.0"
