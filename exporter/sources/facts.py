"""Reads off a loaded model what the manifest records of it."""

from __future__ import annotations

from typing import Any

from exporter.artifact import ModelFacts


def describe_model(model: Any, tokenizer: Any | None) -> ModelFacts:
    """The facts of a transformers causal language model.

    ``eos`` collects every id that the generation settings, the configuration or the tokenizer name, in this order.
    """
    config = model.config.get_text_config()
    holders = [model.generation_config, model.config, config, tokenizer]
    return ModelFacts(
        architecture=type(model).__name__,
        vocab_size=vocab_size(model),
        max_positions=_positive(getattr(config, "max_position_embeddings", None)),
        layers=int(config.num_hidden_layers),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bos=next(iter(_token_ids("bos_token_id", holders)), None),
        eos=_token_ids("eos_token_id", holders),
        pad=next(iter(_token_ids("pad_token_id", holders)), None),
    )


def vocab_size(model: Any) -> int:
    """Rows of the logits."""
    head = model.get_output_embeddings()
    return int(model.config.get_text_config().vocab_size if head is None else head.weight.shape[0])


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
