"""The command-line verbs of the runtimes: each reads its arguments, calls one function and prints what came back."""
