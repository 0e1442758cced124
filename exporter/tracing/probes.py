"""Asking a large model how it wants to be called, without reading all of its weights for each question.

Shapes come from a call on torch's meta device, which has none; numbers from a model of its first layers alone, each
kind of them twice, whose hidden states stand in the logits' place. Both are what the whole model would say, or they
fail: who asks then asks the whole model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from jisu.exporter.sources.half_width import is_half
from jisu.exporter.sources.layers import find_layers, only_first_layers


def call_on_meta(model: nn.Module, **arguments: Any) -> Any:
    """What a model answers, in shapes.

    Raises:
        Exception: of any class, where what the model does depends on numbers.
    """
    tensors = {
        name: torch.empty_like(tensor, device="meta", dtype=torch.float32 if is_half(tensor) else tensor.dtype)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    on_meta = {
        name: value.to("meta") if isinstance(value, torch.Tensor) else value for name, value in arguments.items()
    }
    with torch.device("meta"):
        return torch.func.functional_call(model, tensors, kwargs=on_meta)


@contextlib.contextmanager
def cut_down(model: Any) -> Iterator[int | None]:
    """Let a model have its first layers alone, and no output projection, while the block runs; yields their number.

    None for a model of which nothing can be left out; it is as it was then.
    """
    stack = find_layers(model)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if stack is None or stack.traced == stack.total or head is None or "forward" in vars(head):
        yield None
        return
    head.forward = lambda hidden: hidden
    try:
        with only_first_layers(model, stack):
            yield stack.traced
    finally:
        del head.forward
