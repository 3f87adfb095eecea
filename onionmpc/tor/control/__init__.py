"""A control connection: what it takes to open one, and to use it."""
