"""What a source gives at the seams between its layers, and within one of them, at every position of one text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.graph.localize import LayerReference

if TYPE_CHECKING:
    import torch

Hidden = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SourceStates:
    """One run over a text, float32.

    Attributes:
        seams: [T, C] each: what enters the first layer, then what leaves each of them; None where a layer is not called
            exactly once or gives something else, and all None of a module without layers.
        logits: [T, V], of a classifier [1, labels].
    """

    seams: tuple[Hidden | None, ...]
    logits: Hidden


def observe(reference: LayerReference, layers: Sequence[torch.nn.Module], token_ids: TokenIds) -> SourceStates:
    """Run the source once over int64 [T] and keep what passes between its layers."""
    entering: list[Any] = []
    leaving: list[list[Any]] = [[] for _ in layers]

    def enter(_: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        entering.append(inputs[0] if inputs else keywords.get("hidden_states"))

    def leave(index: int) -> Callable[..., None]:
        return lambda _, __, output: leaving[index].append(output)

    hooks = [layer.register_forward_hook(leave(index)) for index, layer in enumerate(layers)]
    hooks += [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers[:1]]
    with _removed(hooks):
        logits = reference.logits(token_ids)
    seams = (
        [_only(entering, len(token_ids)), *(_only(outputs, len(token_ids)) for outputs in leaving)] if layers else []
    )
    return SourceStates(seams=tuple(seams), logits=logits)


def observe_within(reference: LayerReference, layer: torch.nn.Module, token_ids: TokenIds) -> dict[str, Hidden]:
    """The output [T, N] of every module within a layer that is called once, by its path in the layer."""
    calls: dict[str, list[Any]] = {}

    def keep(path: str) -> Callable[..., None]:
        return lambda _, __, output: calls.setdefault(path, []).append(output)

    hooks = [module.register_forward_hook(keep(path)) for path, module in layer.named_modules() if path]
    with _removed(hooks):
        reference.logits(token_ids, slice(len(token_ids) - 1, len(token_ids)))
    seen = {path: _only(outputs, len(token_ids)) for path, outputs in calls.items()}
    return {path: hidden for path, hidden in seen.items() if hidden is not None}


def _only(outputs: list[Any], tokens: int) -> Hidden | None:
    """The one output as [T, C]; None when there are several, or it is none of that form."""
    import torch

    if len(outputs) != 1:
        return None
    output = outputs[0][0] if isinstance(outputs[0], (tuple, list)) and outputs[0] else outputs[0]
    if not torch.is_tensor(output) or output.shape[:2] != (1, tokens) or not output.is_floating_point():
        return None
    hidden: Hidden = output[0].detach().float().cpu().numpy().reshape(tokens, -1).copy()
    return hidden


@contextlib.contextmanager
def _removed(hooks: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
