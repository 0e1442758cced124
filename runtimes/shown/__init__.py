"""Prompts with images or recordings: who reads them, and which tokens they become."""
