"""Reads off a loaded model what the manifest records of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from exporter.artifact import ModelFacts
from exporter.errors import InputError

# Older models have their own names for it.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")


def describe_model(model: Any, tokenizer: Any | None) -> ModelFacts:
    """The facts of a transformers causal language model.

    ``eos`` collects every id that the generation settings, the configuration or the tokenizer name, in this order. Ids
    without a row, which defaults of transformers can be, are left out.
    """
    config = model.config.get_text_config()
    holders = [getattr(model, "generation_config", None), model.config, config, tokenizer]
    rows = vocab_size(model)
    ids = {role: [one for one in _token_ids(role, holders) if one < rows] for role in _ROLES}
    return ModelFacts(
        architecture=type(model).__name__,
        vocab_size=rows,
        max_positions=longest_text(config),
        layers=int(config.num_hidden_layers),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bos=next(iter(ids["bos_token_id"]), None),
        eos=tuple(ids["eos_token_id"]),
        pad=next(iter(ids["pad_token_id"]), None),
    )


def check_token_ids(stated: Iterable[Mapping[str, Any]], rows: int, checkpoint: Path) -> None:
    """Raise InputError when a checkpoint names a special token for which its model has no row.

    Args:
        stated: what it states itself, under the names of transformers; defaults of transformers are not its word.
        rows: of the logits.
        checkpoint: named in the error.
    """
    holders = [SimpleNamespace(**{role: record.get(role) for role in _ROLES}) for record in stated]
    beyond = {role: [one for one in _token_ids(role, holders) if one >= rows] for role in _ROLES}
    if any(beyond.values()):
        raise InputError(
            f"{checkpoint} names special tokens that its model does not have",
            received=", ".join(f"{role} {one}" for role, ids in beyond.items() for one in ids),
            allowed=f"ids below {rows}",
            fix="Correct config.json and generation_config.json, or convert the checkpoint again.",
        )


def vocab_size(model: Any) -> int:
    """Rows of the logits."""
    head = model.get_output_embeddings()
    return int(model.config.get_text_config().vocab_size if head is None else head.weight.shape[0])


def longest_text(config: Any) -> int | None:
    """Positions that a configuration states, under any of the names that models have for them; None where none is."""
    return next((size for name in _POSITIONS if (size := _positive(getattr(config, name, None)))), None)


def weight_bytes(model: Any) -> int:
    """Bytes of the parameters, each counted once however often it is used."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _token_ids(key: str, holders: list[Any]) -> tuple[int, ...]:
    ids: dict[int, None] = {}
    for holder in holders:
        value = getattr(holder, key, None)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            # Some configurations write -1 for "none".
            if isinstance(one, int) and one >= 0:
                ids[one] = None
    return tuple(ids)


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
