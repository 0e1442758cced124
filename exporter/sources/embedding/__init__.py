"""Embedding models: folders of sentence-transformers, and plain encoders with a pooling that the user names."""
