"""Which of several equal scores a router takes: the first, as ONNX says; torch takes any.

A source whose router scores two experts exactly alike gives one answer or another by the length of the text and by the
version of torch. Both are that model's. For the comparison it takes the lower index, which is what ONNX's `TopK`
promises, so that a difference that is left is a fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def lowest_index_first(module: Any) -> Iterator[None]:
    """While this lasts, `torch.topk` takes the lower index of equal values; of modules with experts only.

    Raises nothing: what is no mixture runs as it is.
    """
    if not any(parameter.ndim > 2 for parameter in module.parameters()):
        yield
        return
    with _stable_topk():
        yield


def _stable_topk() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    class Stable(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function not in (torch.topk, torch.Tensor.topk):
                return function(*args, **(kwargs or {}))
            return _topk(*args, **(kwargs or {}))

    return Stable()


def _topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002, FBT001, FBT002 - torch's own names
    import torch

    values, indices = torch.sort(input, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))
