"""Heads of a GGUF file's attention, their number and sizes, which models state in many ways."""

from __future__ import annotations

from jisu.exporter.sources.gguf import gemma4
from jisu.exporter.sources.gguf.architectures import GEMMA4
from jisu.exporter.sources.gguf.comparison import NO_COUNTERPART, switched_off
from jisu.exporter.sources.gguf.gemma4 import gemma4_fields
from jisu.exporter.sources.gguf.key_places import KeyPlaces


def set_heads(keys: KeyPlaces) -> None:
    """Heads of queries, keys and values, and how large they are."""
    heads, width = keys.stated.get("attention.head_count", 0), keys.stated["embedding_length"]
    keys.head_size = 0
    if isinstance(heads, tuple):
        keys.settle("attention.head_count", "refused", "the number of heads differs between layers")
        return
    _set_kv_heads(keys, heads)
    if keys.model_type == GEMMA4:
        _set_gemma4(keys)
        return
    if not heads:
        for key in ("attention.key_length", "attention.value_length"):
            if key in keys.left:
                keys.settle(key, *switched_off(keys.left[key], (0,)))
        return
    default = width // heads
    keys.head_size = size = keys.stated.get("attention.key_length", default)
    if "head_dim" in keys.declared:
        keys.settings["head_dim"] = size
        keys.put_stated("attention.key_length", "head_dim", size)
    elif size == default:
        keys.settle("attention.key_length", "derived", "embedding_length / attention.head_count")
    else:
        # Most classes look for it although their configurations do not list it; the shapes of weights tell.
        keys.settings["head_dim"] = size
        keys.put_stated("attention.key_length", "head_dim", size)
    if keys.stated.get("attention.value_length", default) == size:
        keys.settle("attention.value_length", "derived", "attention.key_length")
    elif "attention.value_length" in keys.stated or size != default:
        value = keys.stated.get("attention.value_length", default)
        keys.account = keys.account.state(
            "gguf",
            keys.name("attention.value_length"),
            fate="refused",
            why=f"values of {value} beside keys of {size}",
        )
        keys.left.pop("attention.value_length", None)


def _set_gemma4(keys: KeyPlaces) -> None:
    fields, refused = gemma4_fields(keys.header, keys.stated)
    keys.settings.update(fields)
    keys.head_size = fields["head_dim"]
    for key in gemma4.KEYS:
        keys.settle(
            key, "refused" if key in refused else "used", refused.get(key, "of layers with and without a window")
        )
    if isinstance(keys.left.get("feed_forward_length"), tuple):
        fits = "feed_forward_length" not in refused
        keys.settle(
            "feed_forward_length",
            "used" if fits else "refused",
            refused.get("feed_forward_length", "intermediate_size"),
        )


def _set_kv_heads(keys: KeyPlaces, heads: int) -> None:
    key = "attention.head_count_kv"
    kv = keys.stated.get(key, heads)
    if isinstance(kv, tuple):
        # Layers without any are convolutions.
        kinds = ["full_attention" if one else "conv" for one in kv]
        if len({one for one in kv if one}) != 1 or keys.model_type != "lfm2":
            keys.settle(key, "refused", "the number of heads differs between layers")
            return
        keys.place(key, "layer_types", kinds)
        keys.settings["num_key_value_heads"] = max(kv)
    elif "num_key_value_heads" in keys.declared:
        keys.settings["num_key_value_heads"] = kv
        keys.put_stated(key, "num_key_value_heads", kv)
    elif "num_kv_heads" in keys.declared:
        # Falcon: keys for groups of heads, or a second norm, are those of its later models.
        norms = 2 if keys.has("attn_norm_2") else 1
        grouped = norms == 2 or kv not in (1, heads)
        keys.settings |= {"num_kv_heads": kv, "multi_query": kv == 1, "new_decoder_architecture": grouped}
        keys.settings["num_ln_in_parallel_attn"] = norms if grouped else None
        keys.put_stated(key, "num_kv_heads", kv)
    elif "multi_query" in keys.declared and kv in (1, heads):
        keys.settings["multi_query"] = kv == 1
        keys.put_stated(key, "multi_query", kv == 1)
    elif kv == heads:
        keys.settle(key, "derived", "attention.head_count")
    else:
        keys.settle(key, "refused", NO_COUNTERPART)
