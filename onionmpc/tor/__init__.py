"""The only code that speaks to tor: a Network for the mesh."""
