"""The artifact's folder: written under a temporary name, and renamed into place when it is accepted.

It knows `contract`, `jobs` and `graph`.
"""
