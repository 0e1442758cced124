"""The command-line verbs of the exporter: each reads its arguments, calls one function and prints what came back."""
