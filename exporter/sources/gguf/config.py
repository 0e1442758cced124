"""Makes a transformers configuration of a GGUF file's metadata and accounts for every key of it.

transformers' own reader knows some keys of some architectures and leaves the defaults of its classes in place of the
rest. Here each key goes where `gguf_keys` says, what a file leaves out is what llama.cpp takes for it, and the finished
configuration is compared with the file: a key that does not stand in it is refused.
"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.architectures import GEMMA4, config_class
from jisu.exporter.sources.gguf.comparison import switched_off
from jisu.exporter.sources.gguf.header import GgufHeader
from jisu.exporter.sources.gguf.heads import set_heads
from jisu.exporter.sources.gguf.key_places import KeyPlaces
from jisu.exporter.sources.gguf.keys import EPSILON_KEYS, HARMLESS, MEANINGS, NEEDED, OFF
from jisu.exporter.sources.gguf.rotary import longrope_fields, rotary_fields
from jisu.exporter.sources.gguf.structure import set_experts, set_structure, set_windows
from jisu.exporter.sources.plausible import check_layer_count
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"


def read_config(header: GgufHeader) -> tuple[Any, Account]:
    """The configuration that a GGUF file's metadata describes, and what became of each key outside the tokenizer.

    Keys that the finished configuration contradicts are refused in the account, for the caller to raise.

    Raises:
        InputError: transformers reads no such architecture, or the metadata is incomplete or contradicts itself.
    """
    check_layer_count(header.fields.get(f"{header.architecture}.block_count"), header.path)
    keys = KeyPlaces(header, config_class(header))
    _translate(keys)
    # What is refused by name says more than what the class makes of the rest.
    keys.account.refuse(header.path)
    try:
        with quiet_transformers():
            config = keys.config_class(**keys.settings)
    except Exception as error:
        raise InputError(
            f"No configuration can be made from the metadata of {header.path}",
            received=f"architecture {header.architecture!r} ({reason_of(error)})",
            allowed=f"numbers that fit together in {keys.config_class.__name__}",
            fix="Use the model's original Hugging Face folder instead.",
        ) from error
    return config, keys.compare(config)


def _translate(keys: KeyPlaces) -> None:
    """Say of every key of the file where it goes."""
    keys.settings.update(_special_ids(keys.header))
    _refuse_missing(keys)
    _set_size(keys)
    set_heads(keys)
    set_windows(keys)
    set_experts(keys)
    set_structure(keys)
    if keys.model_type != GEMMA4:
        _set_rotary(keys)
    for key in list(keys.left):
        if key in MEANINGS:
            keys.put(key, MEANINGS[key])
        elif key in OFF:
            keys.settle(key, *switched_off(keys.left[key], OFF[key]))
        elif key in HARMLESS:
            keys.settle(key, "harmless", HARMLESS[key])
        else:
            keys.settle(key, "refused", "unknown to this version")
    for key in keys.header.fields:
        keys.state_elsewhere(key)


def _set_rotary(keys: KeyPlaces) -> None:
    fields, used, refused = rotary_fields(keys.stated, head_size=keys.head_size, config_class=keys.config_class)
    keys.settings.update(fields)
    # Only Phi 3 chooses between two sets of divisors; elsewhere these tensors have no place.
    scaled, held = longrope_fields(keys.header, keys.stated) if keys.model_type == "phi3" else ({}, ())
    if scaled:
        keys.settings["rope_parameters"] |= scaled
        keys.settings["original_max_position_embeddings"] = scaled["original_max_position_embeddings"]
        refused = {key: why for key, why in refused.items() if key not in held}
        used = [*used, *held]
    for key in used:
        keys.settle(key, "used", "rope_parameters" if "rope_parameters" in keys.declared else "")
    for key, why in refused.items():
        keys.settle(key, "refused", why)


def _refuse_missing(keys: KeyPlaces) -> None:
    missing = [key for key in NEEDED if key not in keys.stated]
    if not any(key in keys.stated for key in EPSILON_KEYS):
        missing.append(" or ".join(EPSILON_KEYS))
    wrong = [key for key in NEEDED if not _is_whole(keys.stated.get(key, 1))]
    if missing or wrong:
        raise InputError(
            f"The metadata of {keys.header.path} does not describe a whole model",
            received=", ".join([f"no {key}" for key in missing] + [f"{key} {keys.stated[key]!r}" for key in wrong]),
            allowed=f"every key that a {keys.header.architecture} model needs",
            fix="Download the file again, or convert the model with a current converter.",
        )


def _set_size(keys: KeyPlaces) -> None:
    stored = {tensor.name: tensor.shape for tensor in keys.header.tensors}
    layers = keys.stated["block_count"]
    if keys.model_type.startswith("qwen3_5"):
        predicted = keys.left.pop("nextn_predict_layers", 0)
        layers -= predicted
        keys.state("nextn_predict_layers", "derived", "layers that only guess ahead")
    keys.place("block_count", "num_hidden_layers", layers)
    positions = next((name for name in ("max_position_embeddings",) if name in keys.declared), None)
    if positions is None:
        keys.settings["max_position_embeddings"] = keys.stated["context_length"]
        keys.settle("context_length", "harmless", "the model has no table of positions")
    else:
        keys.place("context_length", positions, keys.stated["context_length"])
    rows = stored.get(_EMBEDDING, (0,))[0]
    keys.settings["vocab_size"] = (
        keys.stated.get("vocab_size") or rows or keys.header.fields.get("tokenizer.ggml.tokens", 0)
    )
    keys.settings["tie_word_embeddings"] = _OUTPUT not in stored


def _special_ids(header: GgufHeader) -> dict[str, Any]:
    """Special tokens as the file has them; those that it does not name are none, whatever a class has for them."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {role: header.fields.get(f"tokenizer.ggml.{name}_token_id") for role, name in names.items()}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
