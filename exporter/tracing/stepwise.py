"""Whether a module takes several new tokens at once, found out by running it.

A scan over the tokens is often written as a loop, or begins anew whenever there are several tokens: such a module is
right for one token at a time only, and is traced that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from jisu.calibration.model.whole_sequences import empty_state
from jisu.exporter.contract.signature import StateItem

_BATCH, _PAST, _NEW = 2, 2, 3
# Sums of another order; a state that was not read is off by about one standard deviation.
_NEAR = 1e-2
# A loop over the tokens, or over a block that they are filled up to, becomes as many copies of its body in a graph.
_MOST_OPERATORS = 3


def takes_several_tokens(module: nn.Module, items: Sequence[StateItem]) -> bool:
    """Whether three tokens at once, behind two others, give the logits and the state of three calls, without a loop."""
    with torch.no_grad():  # a module may keep what it computes here, and be trained later
        ids = torch.arange(_BATCH * (_PAST + _NEW)).reshape(_BATCH, -1) % 2
        state = empty_state(items, batch=_BATCH, capacity=_PAST + _NEW)
        for place in range(_PAST):
            _, state = module(ids[:, place : place + 1], torch.full((_BATCH,), place), state)
        try:
            with _Operators() as fewer:
                module(ids[:, _PAST:-1], torch.full((_BATCH,), _PAST), [one.clone() for one in state])
            with _Operators() as many:
                together, after = module(ids[:, _PAST:], torch.full((_BATCH,), _PAST), [one.clone() for one in state])
        except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
            return False
        apart = []
        for place in range(_PAST, _PAST + _NEW):
            with _Operators() as single:
                logits, state = module(ids[:, place : place + 1], torch.full((_BATCH,), place), state)
            apart.append(logits)
        if many.count > _MOST_OPERATORS * single.count or many.fills_blocks(fewer):
            return False
        pairs = [(together, torch.cat(apart, 1)), *zip(after, state, strict=True)]
        return all(one.shape == other.shape and _near(one, other) for one, other in pairs)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that run while it is entered, and keeps the sizes of what is padded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self.padded: list[tuple[torch.Size, torch.Size]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        output = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.constant_pad_nd.default, torch.ops.aten.pad.default):
            self.padded.append((args[0].shape, output.shape))
        return output

    def fills_blocks(self, other: _Operators) -> bool:
        """Whether tensors of different sizes are padded to the same one: a number of blocks, which a trace freezes."""
        pairs = zip(self.padded, other.padded, strict=False)
        return any(batch != less and filled == same for (batch, filled), (less, same) in pairs)


def _near(one: Tensor, other: Tensor) -> bool:
    one, other = one.double(), other.double()
    difference, size = (one - other).abs().max(), other.std()
    return bool(difference <= _NEAR * size) or bool(difference == 0)
