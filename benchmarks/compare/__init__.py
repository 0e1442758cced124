"""Measures contestants interleaved, in speed and quality: `jisu compare`. Start reading at run.py."""
