"""Reads off a loaded model what the manifest records of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.half_width import float32_bytes
from jisu.exporter.sources.unreadable_settings import UNREADABLE, unreadable_settings

# Older models have their own names for it.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")
_DECODER_ROLES = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")


def describe_model(model: Any, tokenizer: Any | None) -> ModelFacts:
    """The facts of a transformers language model.

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
        max_positions=positions_for_tokens(model, longest_text(config)),
        layers=_positive(getattr(config, "num_hidden_layers", None)) or 0,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bos=next(iter(ids["bos_token_id"]), None),
        eos=tuple(ids["eos_token_id"]),
        pad=next(iter(ids["pad_token_id"]), None),
    )


def describe_text_to_text(model: Any, tokenizer: Any | None, checkpoint: Path) -> ModelFacts:
    """The facts of a transformers model with an encoder and a decoder.

    Raises:
        InputError: nothing says which token the decoder begins with, or the settings of generation hold no ids.
    """
    facts = describe_model(model, tokenizer)
    settings, config = model.generation_config, model.config
    first = {role: next(iter(_token_ids(role, [settings, config])), None) for role in _DECODER_ROLES}
    start = first["decoder_start_token_id"] if first["decoder_start_token_id"] is not None else facts.bos
    if start is None or start >= facts.vocab_size:
        raise InputError(
            f"{checkpoint} does not say which token its decoder begins with",
            received=f"decoder_start_token_id {start}",
            allowed=f"an id below {facts.vocab_size} in generation_config.json or config.json",
            fix="Add decoder_start_token_id to generation_config.json.",
        )
    try:
        suppressed = _suppressed(settings, facts.vocab_size)
    except UNREADABLE as error:
        raise unreadable_settings(checkpoint, error) from error
    return replace(
        facts,
        layers=_first_count(config, "decoder_layers", "num_decoder_layers") or facts.layers,
        max_positions=_first_count(config, "max_decoder_position_embeddings") or facts.max_positions,
        max_source_positions=_first_count(config, "max_encoder_position_embeddings") or facts.max_positions,
        decoder_start=start,
        forced_bos=_within(first["forced_bos_token_id"], facts.vocab_size),
        forced_eos=_within(first["forced_eos_token_id"], facts.vocab_size),
        suppressed=suppressed,
    )


def _suppressed(settings: Any, rows: int) -> tuple[int, ...]:
    """Ids that the settings of generation never allow, of those below ``rows``."""
    words = getattr(settings, "bad_words_ids", None) or []
    never = [word[0] for word in words if len(word) == 1] + list(getattr(settings, "suppress_tokens", None) or [])
    return tuple(sorted({one for one in never if 0 <= one < rows}))


def describe_speech(model: Any, tokenizer: Any | None, checkpoint: Path) -> ModelFacts:
    """The facts of a transformers model that hears; one without a decoder has neither positions nor special tokens.

    Raises:
        InputError: nothing says which token the decoder begins with.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        facts = describe_text_to_text(model, tokenizer, checkpoint)
        longest = _first_count(model.config, "max_target_positions") or facts.max_positions
        return replace(facts, max_positions=longest, max_source_positions=None)
    return replace(describe_model(model, tokenizer), max_positions=None, bos=None, eos=(), pad=None)


def _first_count(config: Any, *names: str) -> int | None:
    return next((count for name in names if (count := _positive(getattr(config, name, None)))), None)


def _within(token: int | None, rows: int) -> int | None:
    return token if token is not None and token < rows else None


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
    """Rows of the logits; raises InputError where neither an output projection nor the configuration says how many."""
    head = model.get_output_embeddings()
    rows = getattr(model.config.get_text_config(), "vocab_size", None) if head is None else head.weight.shape[0]
    if rows is None:
        raise InputError(
            f"{type(model).__name__} does not say how many tokens it knows",
            received="no vocab_size in config.json, and no output projection",
            allowed="a model that gives logits for each token of a vocabulary",
            fix="Choose a model that writes or reads texts.",
        )
    return int(rows)


def longest_text(config: Any) -> int | None:
    """Positions that a configuration states, under any of the names that models have for them; None where none is."""
    return next((size for name in _POSITIONS if (size := _positive(getattr(config, name, None)))), None)


def positions_for_tokens(model: Any, stated: int | None) -> int | None:
    """The positions that are left for tokens of those that a configuration states.

    A table of positions with a row for padding counts positions from the row behind it, so that this one and those
    before it are no token's.
    """
    from torch import nn

    for name, module in model.named_modules():
        padding = module.padding_idx if isinstance(module, nn.Embedding) else None
        if stated is None or padding is None or "position" not in name.rpartition(".")[2]:
            continue
        if module.num_embeddings == stated:
            return stated - padding - 1
    return stated


def weight_bytes(model: Any) -> int:
    """Bytes of the parameters as they are computed with, each counted once however often it is used."""
    return float32_bytes(model.parameters())


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
