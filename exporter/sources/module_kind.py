"""Whose module it is: transformers', whose conventions are known, or the user's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def is_of_transformers(module: nn.Module) -> TypeGuard[PreTrainedModel]:
    """Whether the module is a model of transformers, which is not imported to find out."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(module, transformers.PreTrainedModel)


def model_of_transformers(module: nn.Module) -> PreTrainedModel | None:
    """The module itself where it is a model of transformers, or the one that it wraps; None where there is none.

    A wrapper says so by its attribute ``transformer``.
    """
    inner = getattr(module, "transformer", module) if not is_of_transformers(module) else module
    return inner if is_of_transformers(inner) else None


def has_encoder(module: nn.Module) -> TypeGuard[PreTrainedModel]:
    """Whether it is a model of transformers that reads a text with an encoder and says another with a decoder."""
    return is_of_transformers(module) and bool(getattr(module.config, "is_encoder_decoder", False))


def is_one_stack(module: nn.Module) -> bool:
    """Whether it is a model of transformers whose weights lie between a table of tokens and the output projection."""
    return is_of_transformers(module) and not has_encoder(module) and word_embedding(module) is not None


def word_embedding(module: PreTrainedModel) -> nn.Module | None:
    """The table of a model's tokens; None for one that reads no tokens, for which transformers (5.23) raises."""
    try:
        embedding: nn.Module | None = module.get_input_embeddings()
    except NotImplementedError:
        return None
    # Some models of sound name their first convolution, whose weight has more axes than a table; Perceiver names a
    # parameter that no token chooses a row of.
    weight = getattr(embedding, "weight", None)
    return embedding if callable(embedding) and (weight is None or weight.dim() == 2) else None
