"""Which layers are fed by something that ends below, as outputs of ReLU, GELU and SiLU do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Of the calls, how many have to come close to the least number of all, and how close that is.
_SHARE, _CLOSE = 0.75, 0.01
# What is not further above zero than this times what is below gains nothing.
_UP_OVER_DOWN = 4.0


@contextmanager
def lowest_inputs(model: torch.nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[float]]]:
    """Watch layers, by full name, while the block runs.

    Yields:
        By name, the least number of the input of each call.
    """
    lowest: dict[str, list[float]] = {name: [] for name in names}

    def see(name: str, _: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].numel():
            lowest[name].append(float(inputs[0].detach().min()))

    handles = [model.get_submodule(name).register_forward_pre_hook(partial(see, name)) for name in lowest]
    try:
        yield lowest
    finally:
        for handle in handles:
            handle.remove()


def lower_bound(lowest: list[float], max_abs: float) -> float | None:
    """The number, at most 0, that no input is less than; None where there is none, or it would not make codes finer.

    Args:
        lowest: of each call.
        max_abs: of the input.
    """
    least = min(lowest, default=-max_abs)
    if least > 0 or -least * _UP_OVER_DOWN > max_abs:
        return None
    close = sum(one <= least * (1 - _CLOSE) for one in lowest)
    return least if close >= _SHARE * len(lowest) else None
