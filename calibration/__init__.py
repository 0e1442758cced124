"""Text to statistics, scales and quantized weights. It imports none of the other packages."""
