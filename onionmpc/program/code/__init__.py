"""What a program is: the files that the parties compare, and that alone run."""
