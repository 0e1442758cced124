"""Records in words: an artifact's description, JUnit XML, the table of families.

It reads records and calculates nothing.
"""
