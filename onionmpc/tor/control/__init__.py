"""Opening and using a control connection."""
