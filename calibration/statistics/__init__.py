"""What a model's activations are, on disk and resumable."""
