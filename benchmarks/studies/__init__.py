"""Measurements of single questions, each a program of its own."""
