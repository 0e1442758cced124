"""How far the output of a decoder layer moves when one group of its linear layers is replaced, token by token.

Every token's error is taken relative to that token's own output: a few tokens with enormous values, which language
models put at the start of a text, would otherwise be all that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jisu.calibration.model.layer_walk import HiddenStates, TokenIds, inference
from jisu.calibration.w8a8.matmul import Int8Matmul, emulated

if TYPE_CHECKING:
    import torch

Products = Mapping[str, Int8Matmul]

# What a faster way to round an input may add to the error of its group, as a share of the largest one of its layer.
MAY_ADD = 0.25


def choose_products(
    model: torch.nn.Module,
    layers: Sequence[torch.nn.Module],
    windows: Sequence[TokenIds],
    groups: Sequence[tuple[str, ...]],
    candidates: Callable[[tuple[str, ...]], Iterator[Products]],
    *,
    faster: Callable[[Products], bool] = lambda _: False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Products, float]]:
    """The candidate of each group that moves its decoder layer's output least, and by how much.

    Args:
        model: float32; as before when this ends.
        layers: its decoder layers, in running order.
        windows: what they are compared on, int64 [T] each, all of one length.
        groups: full names of linear layers that share an input; those outside of ``layers`` are passed by.
        candidates: the products of a group, one mapping from full names for each way to make them.
        faster: whether a candidate takes less time than others. The best of these is taken where it adds little to
            what the layer loses anyway: `MAY_ADD`.
        progress: called with the layers done and their number.

    Yields:
        (products, mean over the tokens of |y' - y|**2 / |y|**2) of every group, layer after layer.
    """
    import torch

    names = {id(module): name for name, module in model.named_modules()}
    with inference(model):
        states = HiddenStates(model, layers[0], list(windows))
        try:
            for index, layer in enumerate(layers):
                prefix = names[id(layer)]
                truth = [states.run(layer, window) for window in range(len(states))]
                measured: list[_Best] = []
                for group in groups:
                    if not group[0].startswith(f"{prefix}."):
                        continue
                    measured.append(_Best(faster))
                    for products in candidates(group):
                        with emulated(model, products):
                            moved = [states.run(layer, window) for window in range(len(states))]
                        errors = [
                            (torch.square(new - old).sum(-1) / torch.square(old).sum(-1)).mean()
                            for new, old in zip(moved, truth, strict=True)
                        ]
                        measured[-1].see(products, float(torch.stack(errors).mean()))
                yield from _chosen(measured)
                if index + 1 < len(layers):
                    states.advance(layer, name=prefix)
                if progress:
                    progress(index + 1, len(layers))
        finally:
            states.close()


class _Best:
    """The best candidate of a group, and the best of its faster ones; the others are let go."""

    def __init__(self, faster: Callable[[Products], bool]) -> None:
        self._faster = faster
        self.products: Products = {}
        self.error = float("inf")
        self.fast: tuple[Products, float] | None = None

    def see(self, products: Products, error: float) -> None:
        """Another candidate; of equal ones the first stays."""
        if not self.products or error < self.error:
            self.products, self.error = products, error
        if self._faster(products) and (self.fast is None or error < self.fast[1]):
            self.fast = products, error


def _chosen(measured: Sequence[_Best]) -> Iterator[tuple[Products, float]]:
    """The best of each group of a layer, or the best of its faster ones where that adds little."""
    allowed = MAY_ADD * max((best.error for best in measured), default=0.0)
    for best in measured:
        if best.fast is not None and best.fast[1] <= best.error + allowed:
            yield best.fast
        else:
            yield best.products, best.error
