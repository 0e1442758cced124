"""What becomes of damaged files and of exports that are killed: counts of how each attempt ended."""
