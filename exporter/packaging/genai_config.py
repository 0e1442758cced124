"""Writes ``genai_config.json``, with which onnxruntime-genai runs an artifact as it lies there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import GRAPH, ModelFacts
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, Signature

NAME = "genai_config.json"
# onnxruntime-genai keeps a list of model types. All decoders with these inputs and outputs share one code path there,
# and this is the type it was written for.
_TYPE = "llama"


# The settings of a model that it reads under the same names; it has none for the others.
_SEARCH = (
    "do_sample",
    "early_stopping",
    "length_penalty",
    "min_length",
    "no_repeat_ngram_size",
    "num_beams",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
)


def write_genai_config(
    folder: Path, signature: Signature, facts: ModelFacts, settings: Mapping[str, Any] | None = None
) -> bool:
    """Write the file when the graph is one that onnxruntime-genai can run; returns whether it is.

    Args:
        settings: the model's own generation settings, in transformers' names.

    It asks for the attention mask, for prompts in one call, and for key/value buffers of one shape in all layers.
    """
    shapes = {(spec.kind, spec.dims) for spec in signature.state}
    if signature.takes_one_token:
        return False
    if not signature.has_input(ATTENTION_MASK) or len(shapes) != 1 or not facts.eos:
        return False
    kind, dims = shapes.pop()
    if kind != "kv":
        return False
    layers = len(signature.state) // 2
    _, kv_heads, _, head_size = dims
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": GRAPH,
        "head_size": head_size,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "inputs": {
            "input_ids": INPUT_IDS,
            "attention_mask": ATTENTION_MASK,
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": LOGITS,
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    longest = facts.max_positions or 1 << 15
    config = {
        "model": {
            "type": _TYPE,
            "bos_token_id": facts.eos[0] if facts.bos is None else facts.bos,
            "eos_token_id": list(facts.eos),
            "pad_token_id": facts.eos[0] if facts.pad is None else facts.pad,
            "vocab_size": facts.vocab_size,
            "context_length": longest,
            "decoder": decoder,
        },
        "search": {
            "do_sample": False,
            "max_length": longest,
            **_search_settings(settings or {}, longest),
            "past_present_share_buffer": True,
        },
    }
    (folder / NAME).write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    return True


def _search_settings(settings: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """What of a model's settings onnxruntime-genai knows; those of drawing only where tokens are drawn."""
    drawing = ("temperature", "top_k", "top_p")
    search = {name: settings[name] for name in _SEARCH if name in settings}
    if not search.get("do_sample"):
        search = {name: value for name, value in search.items() if name not in drawing}
    if isinstance(search.get("early_stopping"), str):
        del search["early_stopping"]  # "never", which it has not
    if settings.get("max_length"):
        search["max_length"] = min(settings["max_length"], longest)
    return search
