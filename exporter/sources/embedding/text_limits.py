"""What sentence-transformers records beside an encoder: the longest text, its case, and how the encoder is fed.

Settings by which that package opens another model than the folder holds, or makes other tokens, are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json

# Under its newer name and older ones, of which the first that is there counts.
LENGTHS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Of the file of lengths: what versions of that package up to 6 write there.
_LIMIT_KEYS = frozenset(
    {"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"}
    | {"processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion"}
    | {"model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs"}
)
# Of these, what changes no number in float32; the rest would make another model, or other tokens.
_HARMLESS = {
    "model_args": {"add_pooling_layer", "attn_implementation", "device_map", "low_cpu_mem_usage", "use_safetensors"},
    "tokenizer_args": {"padding_side", "use_fast"},
    "config_args": set[str](),
}
_ALWAYS_HARMLESS = {"torch_dtype", "dtype", "trust_remote_code", "local_files_only", "revision", "token"}
_NEWER_NAMES = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args", "config_kwargs": "config_args"}
_STATES, _TOKEN_STATES = "last_hidden_state", "token_embeddings"
# Tokens of a text: with one, nothing could be told from anything else.
_SHORTEST = 2


def read_limits(encoder: Path) -> dict[str, Any]:
    """Length and case of the texts; raises InputError for a use of the encoder that is no embedding of text."""
    path = next((encoder / name for name in LENGTHS if (encoder / name).is_file()), None)
    if path is None:
        return {}
    limits = read_json(path)
    fault = _limit_fault(limits)
    if fault is None:
        return limits
    raise InputError(
        f"{path} asks for something else than the states of an encoder",
        received=fault,
        allowed="transformer_task feature-extraction, method forward, and a max_seq_length of 2 or more",
        fix="Correct the file, or choose another model.",
    )


def _limit_fault(limits: Mapping[str, Any]) -> str | None:
    """What of the lengths and the use of the encoder is not understood; None where everything is."""
    use = limits.get("transformer_task", "feature-extraction")
    ways = {"text": {}} if limits.get("modality_config") is None else limits["modality_config"]
    if not isinstance(ways, dict) or not all(isinstance(way, dict) for way in ways.values()):
        return f"modality_config {ways!r:.60}"
    if "message" in ways:  # then every text is a message of a user
        return "modality_config with message, by which every text goes through the chat template"
    text = ways.get("text", {}).get("method", "forward")
    if use != "feature-extraction" or text != "forward":
        return f"transformer_task {use!r}, method {text!r}"
    if foreign := sorted(set(limits) - _LIMIT_KEYS):
        return f"{', '.join(foreign)}, which sentence-transformers does not know"
    states = ways.get("text", {}).get("method_output_name") or _STATES
    named = limits.get("module_output_name") or _TOKEN_STATES
    if (states, named) != (_STATES, _TOKEN_STATES):
        return f"{states!r} of the encoder as {named!r}, where its {_STATES} are to be {_TOKEN_STATES}"
    longest = limits.get("max_seq_length")
    if longest is not None and (not isinstance(longest, int) or isinstance(longest, bool) or longest < _SHORTEST):
        return f"max_seq_length {longest!r}"
    return _changed_encoder(limits)


def _changed_encoder(limits: Mapping[str, Any]) -> str | None:
    """A setting by which the package opens or feeds the encoder otherwise than its folder says; None without one."""
    for key in ("processing_kwargs", "query_length", "document_length", "query_expansion"):
        if limits.get(key):
            return f"{key} {limits[key]!r:.60}"
    for key, value in limits.items():
        harmless = _HARMLESS.get(_NEWER_NAMES.get(key, key))
        if harmless is None or not value:
            continue
        if not isinstance(value, dict):
            return f"{key} {value!r:.60}"
        if changing := sorted(map(str, set(value) - harmless - _ALWAYS_HARMLESS)):
            return f"{key} with {', '.join(changing)}"
    return None
