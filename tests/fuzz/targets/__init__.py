"""Everything that reads what a stranger, a peer or a disk may have made: one module each, its invariant in line 1."""
