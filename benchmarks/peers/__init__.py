"""One worker program for each engine that artifacts are compared with, and the command that prepares their models.

A worker may run in another environment than ours: beside its own engine it imports the standard library only.
"""
