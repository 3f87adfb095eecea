"""What a program is: the files that the parties compare, and the only ones that run."""
