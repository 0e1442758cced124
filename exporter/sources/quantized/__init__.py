"""Quantized checkpoints of Hugging Face folders: from codes, scales and zero points to the weights they stand for."""

from __future__ import annotations

from jisu.exporter.sources.quantized.declaration import Declaration, forget_quantization, read_declaration
from jisu.exporter.sources.quantized.opening import open_quantized
from jisu.exporter.sources.quantized.reading import Quantization, read_quantized
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight

__all__ = [
    "Declaration",
    "Integers",
    "Quantization",
    "QuantizedWeight",
    "forget_quantization",
    "open_quantized",
    "read_declaration",
    "read_quantized",
]
