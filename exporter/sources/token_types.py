"""Whether a model is told by types of tokens which of two texts they are of."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.signature import TOKEN_TYPE_IDS
from jisu.exporter.sources.module_kind import model_of_transformers

if TYPE_CHECKING:
    from torch import nn


def reads_types(module: nn.Module, tokenizer: Any | None) -> bool:
    """Whether the model has two types of tokens or more, and its tokenizer gives them.

    Models whose forward takes types may know one only, and read nothing from it.
    """
    model = model_of_transformers(module)
    if model is None or TOKEN_TYPE_IDS not in inspect.signature(module.forward).parameters:
        return False
    count = getattr(model.config, "type_vocab_size", None)
    if not isinstance(count, int) or count < 2:
        return False
    return tokenizer is None or TOKEN_TYPE_IDS in tokenizer.model_input_names
