"""Which linear layers of a module read the same input (q/k/v, gate/up), in the order they run.

Layers with one input share their statistics, and can be quantized as one stacked matrix. Found by watching one forward,
not by name. A layer with an attribute ``routed`` is one of several that share out the tokens of one input: it is called
in every forward, maybe with none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.calibration.errors import ActivationError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LinearGroup:
    """Layers that were handed the same tensor; names are relative to the module that was watched."""

    names: tuple[str, ...]


def find_groups(
    module: torch.nn.Module, run: Callable[[], Any], *, names: tuple[str, ...], require_all: bool = True
) -> list[LinearGroup]:
    """Watch one forward.

    Args:
        module: what holds the layers.
        run: does one forward of it.
        names: the layers of interest.
        require_all: refuse a layer that is not called; otherwise it forms a group of its own at the end.

    Returns:
        Groups in the order their inputs appear; names in a group in the order they are called.

    Raises:
        ActivationError: a layer was never called, so that it has no statistics; names it.
    """
    modules = dict(module.named_modules())
    seen: list[tuple[torch.Tensor, list[str]]] = []  # holding the tensors keeps their identities unique

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            for tensor, group in seen:
                if name in group:
                    return
                if tensor is inputs[0]:
                    group.append(name)
                    return
            seen.append((inputs[0], [name]))

        return hook

    handles = [modules[name].register_forward_pre_hook(watch(name)) for name in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if not any(name in group for _, group in seen)]
    if missing and require_all:
        raise ActivationError(
            f"The calibration text never reaches {', '.join(missing[:5])}",
            received=f"{len(missing)} of {len(names)} layers without input",
            allowed="layers that every forward calls",
            fix="Keep those layers, or calibrate with more and other text.",
        )
    return [LinearGroup(tuple(group)) for _, group in seen] + [LinearGroup((name,)) for name in missing]


def routed_as(layer: Any) -> str | None:
    """What a layer shares with those among which a router shares out the tokens; None of a layer that gets them all."""
    routed: str | None = getattr(layer, "routed", None)
    return routed


def split_stages(module: torch.nn.Module, groups: Sequence[LinearGroup]) -> list[list[LinearGroup]]:
    """Groups that can be observed in one forward because none of them comes after another: experts side by side.

    All other groups form a stage each, in the order given.
    """
    stages: list[tuple[str | None, list[LinearGroup]]] = []
    for group in groups:
        routed = routed_as(module.get_submodule(group.names[0]))
        if routed is not None and stages and stages[-1][0] == routed:
            stages[-1][1].append(group)
        else:
            stages.append((routed, [group]))
    return [stage for _, stage in stages]


def linear_names(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the `nn.Linear` layers of a module, in the order it holds them; subclasses included."""
    import torch

    return tuple(name for name, child in module.named_modules() if isinstance(child, torch.nn.Linear))
