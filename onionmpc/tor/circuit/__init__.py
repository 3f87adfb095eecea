"""How long our side of a circuit is: layer guards, and what tor reports."""
