"""One computation, from invitation to result."""
