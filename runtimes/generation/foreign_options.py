"""Generation options of other libraries: those that change nothing here are taken, others have a name of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Option -> the values with which it changes nothing here; None is one of them for all, and () stands for any value.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "n": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "pad_token_id": (),
    "stream": (False,),
    "synced_gpus": (False,),
    "use_cache": (True,),
    "user": (),
    "verbose": (),
}
# What an option is called elsewhere -> here.
OUR_NAME: dict[str, str] = {
    "beam_size": "num_beams",
    "beam_width": "num_beams",
    "eos_token_id": "stop_ids",
    "logits_processor": "logits_processors",
    "max_completion_tokens": "max_new_tokens",
    "max_output_tokens": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "n_predict": "max_new_tokens",
    "num_predict": "max_new_tokens",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "stop_token_ids": "stop_ids",
    "stop_words": "stop",
    "top_logprobs": "logprobs",
}


def without_harmless(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those of other libraries that would change nothing."""
    return {name: value for name, value in changes.items() if not _is_harmless(name, value)}


def _is_harmless(name: str, value: object) -> bool:
    if name in OUR_NAME:
        return value is None
    if name not in HARMLESS:
        return False
    allowed = HARMLESS[name]
    return (
        value is None
        or not allowed
        or any(value is one or (value == one and type(value) is type(one)) for one in allowed)
    )
