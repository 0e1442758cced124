"""Artifacts times backends: speed and quality side by side, in one report. It may use every other package."""
