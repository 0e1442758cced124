"""How a long command runs: stages, memory and its limit, scratch files, resumption, termination, Ray, output paths.

It knows `contract` and nothing about models.
"""
