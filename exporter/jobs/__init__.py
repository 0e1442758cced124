"""How a long command runs: stages and their memory, termination, tasks on Ray, output paths.

It knows `contract` and nothing about models.
"""
