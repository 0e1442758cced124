"""Gemma 4's heads and rotary positions: layers with a window have others than the rest, and a tensor says which turn.

Of the whole layers' frequencies the first few turn as they are; the divisors in ``rope_freqs.weight`` are one for those
and beyond any use for the others, which transformers calls proportional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.exporter.sources.gguf.header import GgufHeader
from jisu.exporter.sources.gguf.weights import read_tensor

KEYS = (
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.dimension_count",
    "rope.dimension_count_swa",
)
_UNTURNED = 1e29  # a divisor that leaves nothing of a frequency


def gemma4_fields(header: GgufHeader, stated: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of the configuration, and the keys that it has no place for, each with the reason."""
    whole = stated.get("attention.key_length", 0)
    local = stated.get("attention.key_length_swa", whole)
    expected = {
        "attention.value_length": whole,
        "attention.value_length_swa": local,
        "rope.dimension_count": whole,
        "rope.dimension_count_swa": local,
    }
    refused = {
        key: f"{stated[key]} values where the heads have {size}"
        for key, size in expected.items()
        if stated.get(key, size) != size
    }
    turned = _turned(header, whole // 2)
    if turned is None:
        refused["rope.freq_base"] = "rope_freqs.weight scales some of the frequencies"
        turned = 0
    widths = stated.get("feed_forward_length")
    fields = {
        "head_dim": local,
        "global_head_dim": whole,
        "rope_parameters": {
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": float(stated.get("rope.freq_base_swa", 10000.0)),
            },
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 2 * turned / whole if whole else 1.0,
                "rope_theta": float(stated.get("rope.freq_base", 10000.0)),
            },
        },
    }
    table = next((one for one in header.tensors if one.name == "per_layer_token_embd.weight"), None)
    if table is not None:
        fields["vocab_size_per_layer_input"] = table.shape[0]
    if isinstance(widths, tuple):
        # Layers that share keys and values with earlier ones may be twice as wide.
        shared = stated.get("attention.shared_kv_layers", 0)
        own = len(widths) - shared
        if shared and widths == (widths[0],) * own + (2 * widths[0],) * shared:
            fields |= {"use_double_wide_mlp": True, "intermediate_size": widths[0]}
        else:
            refused["feed_forward_length"] = "the value differs between layers"
    return fields, refused


def _turned(header: GgufHeader, frequencies: int) -> int | None:
    """How many frequencies of the whole layers turn; None where some are scaled."""
    tensor = next((one for one in header.tensors if one.name == "rope_freqs.weight"), None)
    if tensor is None:
        return frequencies
    divisors = read_tensor(tensor)
    turned = int((divisors == 1).sum())
    alike = len(divisors) == frequencies and (divisors[:turned] == 1).all() and (divisors[turned:] >= _UNTURNED).all()
    return turned if alike else None
