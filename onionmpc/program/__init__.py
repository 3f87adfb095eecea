"""The MPyC program and the process that it runs in."""
