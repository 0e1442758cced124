"""What runs an artifact, one room each, and the parts that backends share.

Backends know the exporter's contract and `machine`; no text and no sampling. A backend imports no sibling but `ort`.
"""
