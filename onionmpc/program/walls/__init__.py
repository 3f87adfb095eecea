"""The walls around the program process: what a script can reach, and what its user learns about that."""
