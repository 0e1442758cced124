"""Experts as transformers keeps them: parameters of three axes, one matrix for each expert.

Everything that speaks of single matrices (formats, graphs, checks) knows each of them by a name of its own,
``model.layers.0.mlp.experts.3.down_proj``, as if it were a linear layer. The matrices are views: nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# The parameters that hold matrices; those of experts without a gate have no ``gate_up_proj``.
_AXES = 3
_STACKED = ("gate_up_proj", "up_proj", "down_proj")


def find_experts(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """(path, module) of each mixture whose experts transformers computes by an exchangeable function."""
    for path, child in module.named_modules():
        stacked = getattr(child, "down_proj", None)
        if hasattr(child, "is_transposed") and getattr(stacked, "ndim", 0) == _AXES:
            yield path, child


def expert_name(stacked: str, number: int) -> str:
    """The module path of one expert's matrix; ``stacked`` is the name of the parameter that holds those of all."""
    path, _, kind = stacked.rpartition(".")
    return f"{path}.{number}.{kind}" if path else f"{number}.{kind}"


def expert_number(name: str) -> int:
    """Which expert a matrix's module path is of."""
    return int(name.split(".")[-2])


def stacked_names(path: str, experts: Any) -> list[str]:
    """The names of the parameters with three axes of a mixture at ``path``."""
    prefix = f"{path}." if path else ""
    return [f"{prefix}{kind}" for kind in _STACKED if getattr(getattr(experts, kind, None), "ndim", 0) == _AXES]


def matrices_in(experts: Any, kind: str) -> list[Tensor]:
    """The matrices [out, in] of all experts in one of their parameters: views, as `nn.Linear` stores them."""
    stacked = getattr(experts, kind).detach()
    return list(stacked.transpose(1, 2) if experts.is_transposed else stacked)


def expert_weights(module: nn.Module) -> dict[str, Tensor]:
    """Every expert's matrix [out, in] by its name, ``....3.down_proj.weight``."""
    weights = {}
    for path, experts in find_experts(module):
        for stacked in stacked_names(path, experts):
            for number, matrix in enumerate(matrices_in(experts, stacked.rpartition(".")[2])):
                weights[f"{expert_name(stacked, number)}.weight"] = matrix
    return weights


def named_weights(module: nn.Module, *, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """The module's parameters by name, the matrices of experts one by one instead of stacked."""
    weights: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=remove_duplicate))
    for path, experts in find_experts(module):
        for stacked in stacked_names(path, experts):
            weights.pop(stacked, None)
    return weights | expert_weights(module)
