"""Lets a mixture call each expert's matrix as a linear layer, so that hooks see what that expert alone is fed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from jisu.exporter.sources.experts import expert_name, find_experts, matrices_in, stacked_names
from jisu.exporter.tracing.routing import routed_by_us


@contextlib.contextmanager
def expert_layers(module: nn.Module) -> Iterator[None]:
    """For a while the experts of a model of transformers are linear layers at ``....experts.3.down_proj``.

    Their weights are views of the parameters with three axes: what changes one changes the other. Each is marked with
    ``routed``, the name of that parameter: it is called in every forward, with no rows where no token was sent to it.
    Within another of these nothing happens.
    """
    mixtures = list(find_experts(module)) if isinstance(module, PreTrainedModel) else []
    if not mixtures or any("0" in experts._modules for _, experts in mixtures):
        yield
        return
    assert isinstance(module, PreTrainedModel)
    added: list[tuple[Any, list[str]]] = []
    try:
        for path, experts in mixtures:
            added.append((experts, _attach(path, experts)))
        with routed_by_us(module):
            yield
    finally:
        for experts, names in added:
            for name in names:
                del experts._modules[name]


def _attach(path: str, experts: Any) -> list[str]:
    """Give a mixture a child for each expert, with a linear layer for each of its matrices; returns their names."""
    names: list[str] = []
    for stacked in stacked_names(path, experts):
        kind = stacked.rpartition(".")[2]
        for number, matrix in enumerate(matrices_in(experts, kind)):
            if str(number) not in experts._modules:
                experts.add_module(str(number), nn.Module())
                names.append(str(number))
            experts._modules[str(number)].add_module(kind, _layer(matrix, stacked))
    assert not names or expert_name(stacked, 0).endswith(f"{names[0]}.{kind}")
    return names


class _ExpertLayer(nn.Linear):
    """A linear layer whose weight may have two bytes a number, see `exporter.sources.half_width`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return nn.functional.linear(input, self.weight.to(input.dtype))


def _layer(matrix: Any, stacked: str) -> nn.Linear:
    rows, features = matrix.shape
    layer: Any = _ExpertLayer(features, rows, bias=False, device="meta")
    # No parameter: the module has the weight as one already.
    del layer.weight
    layer.weight, layer.routed = matrix, stacked
    layer.eval()
    return layer  # type: ignore[no-any-return]
