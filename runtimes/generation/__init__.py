"""From a prompt to tokens and text, on any backend: the token loop, sampling, beams, stopping.

It knows the backend protocol and never a backend.
"""
