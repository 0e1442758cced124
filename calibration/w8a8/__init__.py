"""8-bit activations times 8-bit weights."""
