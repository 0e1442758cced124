"""The source itself as a backend."""
