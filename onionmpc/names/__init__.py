"""Who a key is: one's own names for addresses, and what parties show of who they are."""
