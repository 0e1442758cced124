"""From chat messages to one prompt: the model's template in a sandbox, and what in it is only data."""
