"""The verbs of the command line: each declares what it understands and does one step."""
