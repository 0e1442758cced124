"""What an artifact is, in data and protocols: errors, signature, manifest, the backend protocol.

All that `runtimes` may import from the exporter. It knows no other room, and needs the standard library and NumPy only.
"""
