"""The command line: alone prints, prompts and exits."""
