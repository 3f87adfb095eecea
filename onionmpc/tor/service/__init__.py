"""Our onion service."""
