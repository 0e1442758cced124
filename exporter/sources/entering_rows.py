"""The rows of features that a model puts in the places of a token, found by listening to it.

Models of transformers that read sound or images beside texts fill these places by `Tensor.masked_scatter` (transformers
5.23). What they do before it, such as cutting off what is padding, is theirs, and a trace of it is what they do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jisu.exporter.contract.errors import InputError

# transformers compares counts of tokens and of features in its forward, which would fix the number of rows in a trace.
_UNCHECKED = "TRANSFORMERS_DISABLE_TORCH_CHECK"


class EnteringRows(TorchFunctionMode):
    """While entered: notes what a model puts among its embeddings, and leaves these as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.masked_scatter, torch.masked_scatter):
            self._sources.append(args[2] if len(args) > 2 else (kwargs or {})["source"])
            return args[0]
        return func(*args, **(kwargs or {}))

    def rows(self, model: Any) -> Tensor:
        """Float32 [rows, features]; raises InputError where features enter in another way, or more than once."""
        if len(self._sources) != 1:
            raise InputError(
                f"{type(model).__name__} puts what it hears among the tokens in a way that is not known",
                received=f"{len(self._sources)} places where features take those of tokens",
                allowed="one",
                fix="Choose another model.",
            )
        source = self._sources[0]
        return source.reshape(-1, source.shape[-1]).to(torch.float32)


def entering_rows(model: Any, layers: Any, arguments: dict[str, Any]) -> Tensor:
    """What a model puts in the places of a token when it is called, float32 [rows, features].

    Args:
        layers: of its decoder, which do nothing meanwhile.
        arguments: of the call.
    """
    entering = EnteringRows()
    with entering, _emptied(layers), _unchecked():
        model(**arguments, use_cache=False)
    return entering.rows(model)


@contextlib.contextmanager
def _emptied(layers: Any) -> Iterator[None]:
    own = layers._modules
    layers._modules = {}
    try:
        yield
    finally:
        layers._modules = own


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    before = os.environ.get(_UNCHECKED)
    os.environ[_UNCHECKED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_UNCHECKED]
        else:
            os.environ[_UNCHECKED] = before
