"""Any kind of text, and seeded windows of it."""
