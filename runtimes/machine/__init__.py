"""Facts about this machine: CPUs, memory, GPUs, what is missing on it.

It knows no backend.
"""
