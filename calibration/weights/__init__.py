"""Matrices to blocks of integers: formats, and the algorithms that round."""
