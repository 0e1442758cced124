"""A source without weights, for whoever asks only what an export would do."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.artifact import MODEL_KINDS, ModelFacts, ModelKind
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.facts import describe_model, weight_bytes
from jisu.exporter.sources.linear_layers import use_linear_layers
from jisu.exporter.sources.source import Source


def outline_source(
    empty: Any,
    tokenizer: Any | None,
    origin: dict[str, Any],
    *,
    model_kind: ModelKind = MODEL_KINDS[0],
    facts: ModelFacts | None = None,
    account: Account | None = None,
) -> Source:
    """The source around a model on torch's meta device, in which weights that are one are tied.

    Args:
        facts: of the model; those of a causal language model when None.
        account: of what the checkpoint states; an empty one when None.
    """
    empty.tie_weights()
    empty.eval()
    use_linear_layers(empty)
    return Source(
        module=empty,
        model=facts or describe_model(empty, tokenizer),
        model_kind=model_kind,
        tokenizer=tokenizer,
        provenance=origin,
        account=account or Account(),
        weight_bytes=weight_bytes(empty),
    )


def is_outline(source: Source) -> bool:
    """Whether the weights were not read."""
    return any(parameter.is_meta for parameter in source.module.parameters())
