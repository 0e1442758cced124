"""Which layers of a module a call runs: what none runs is in no graph, and has nothing that could be quantized."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jisu.calibration.model.layer_walk import inference
from jisu.calibration.model.whole_sequences import run_whole
from jisu.exporter.sources.module_kind import is_of_transformers, model_of_transformers
from jisu.exporter.sources.quiet import quiet_transformers

if TYPE_CHECKING:
    from torch import nn

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
# Of weights that are read for this alone.
_FEW_BYTES = 1 << 30
# By a model of transformers, the ids of its linear layers that no call runs; asked once, since it is called for it.
_UNCALLED: WeakKeyDictionary[Any, frozenset[int]] = WeakKeyDictionary()


def calls_of(module: nn.Module) -> Callable[[nn.Module], bool]:
    """A function that says of a part of a module whether calls run it.

    A model of transformers is called without its weights, or, where what it does depends on numbers, with them if they
    are few. Where neither is possible, all of it counts as called.
    """
    model = model_of_transformers(module)
    if model is None:
        called = _called(module)
        return lambda child: id(child) in called
    uncalled = _uncalled(model) if is_of_transformers(module) else frozenset()
    return lambda child: id(child) not in uncalled


def _uncalled(model: Any) -> frozenset[int]:
    """Linear layers that are not run, such as attention to an encoder that a decoder alone does not have."""
    import torch
    from torch import nn

    from jisu.exporter.tracing.probes import call_on_meta

    if model in _UNCALLED:
        return _UNCALLED[model]
    linear = [child for child in model.modules() if isinstance(child, nn.Linear)]
    few = sum(parameter.nbytes for parameter in model.parameters()) < _FEW_BYTES
    ways: list[Callable[..., Any]] = [partial(call_on_meta, model), *([model] if few else [])]
    uncalled: frozenset[int] = frozenset()
    for call in ways:
        try:
            with inference(model), quiet_transformers(), _noting(linear, lambda child: True) as called:
                call(input_ids=torch.zeros((1, 2), dtype=torch.int64), use_cache=False)
        except Exception:  # noqa: BLE001 - it may depend on numbers, or need more than tokens
            continue
        uncalled = _of_no_called_kind(model, linear, called)
        break
    _UNCALLED[model] = uncalled
    return uncalled


def _of_no_called_kind(model: nn.Module, layers: list[Any], called: set[int]) -> frozenset[int]:
    """Layers none of whose likes were run: two tokens do not reach every expert."""
    names = {id(module): _NUMBER.sub("*", name) for name, module in model.named_modules()}
    kinds = {names[one] for one in called}
    return frozenset(id(layer) for layer in layers if names[id(layer)] not in kinds)


def _called(module: nn.Module) -> set[int]:
    """Layers of a user's module that a call runs, and whose weights are parameters.

    A weight that is computed from others is in no graph as it stands.
    """
    import torch
    from torch import nn

    def stands(child: nn.Module) -> bool:
        weights = [name for name in child.__dict__.get("_flat_weights_names", ["weight"]) if name.startswith("weight")]
        return set(weights) <= set(child._parameters)

    kinds = (nn.Linear, nn.Embedding, nn.RNNBase)
    layers = [child for child in module.modules() if isinstance(child, kinds)]
    with _noting(layers, stands) as called, inference(module):
        run_whole(module, torch.zeros((1, 2), dtype=torch.int64))
    return called


@contextmanager
def _noting(layers: list[Any], counts: Callable[[nn.Module], bool]) -> Iterator[set[int]]:
    """Yields the ids of those layers that have been run and count."""
    called: set[int] = set()

    def note(child: nn.Module, *_: Any) -> None:
        if counts(child):
            called.add(id(child))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()
