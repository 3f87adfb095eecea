"""The program process: how the supervisor starts and watches it, and what runs inside it."""
