"""The length of our side of a circuit: layer guards, and what tor reports."""
