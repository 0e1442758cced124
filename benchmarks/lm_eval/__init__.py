"""Artifacts in EleutherAI's evaluation harness."""
