"""Which decoder layers of a module repeat each other, so that only the first few have to be traced.

Two layers are equal when their modules have the same classes, settings, parameter shapes and per-layer configuration.
Equality found here is not verified: `stamp` compares the traced bodies and the gate compares the numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class LayerStack:
    """Which layers are traced and which traced layer each of the others copies.

    ``kinds`` holds one number per layer of the model, equal for equal layers; the first ``traced`` layers are traced.
    """

    path: str
    kinds: tuple[int, ...]
    traced: int

    @property
    def total(self) -> int:
        return len(self.kinds)

    def template(self, layer: int) -> int:
        """The last traced layer of this layer's kind."""
        return max(index for index in range(self.traced) if self.kinds[index] == self.kinds[layer])

    def twin(self, layer: int) -> int | None:
        """Another traced layer of the same kind, to compare a template with."""
        same = [index for index in range(self.traced) if self.kinds[index] == self.kinds[layer] and index != layer]
        return same[0] if same else None


def find_layers(module: nn.Module) -> LayerStack | None:
    """Find the longest `ModuleList` of decoder layers and the shortest prefix that holds every kind of layer twice.

    Returns None when the module has no such list.
    """
    lists = [(path, child) for path, child in module.named_modules() if isinstance(child, nn.ModuleList)]
    decoder = _decoder_path(module)
    lists = [(path, child) for path, child in lists if path.startswith(decoder)] or lists
    if not lists:
        return None
    # The outermost list wins a tie: the experts of one layer may be as many as there are layers.
    path, layers = max(lists, key=lambda item: (len(item[1]), -item[0].count(".")))
    descriptions = [_kind(layer, index, len(layers)) for index, layer in enumerate(layers)]
    kinds = tuple(descriptions.index(description) for description in descriptions)
    return LayerStack(path=path, kinds=kinds, traced=_prefix(kinds))


def _decoder_path(module: Any) -> str:
    """Where the part of a model of transformers lies that reads tokens: others may have towers with more layers."""
    named = getattr(module, "get_decoder", None)
    if named is None or getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        return ""
    decoder = named()
    return next((f"{path}." for path, child in module.named_modules() if child is decoder and path), "")


@contextlib.contextmanager
def only_first_layers(module: nn.Module, stack: LayerStack | None) -> Iterator[None]:
    """Shorten the list of layers to the traced ones while the block runs."""
    if stack is None:
        yield
        return
    parent_path, _, name = stack.path.rpartition(".")
    parent = module.get_submodule(parent_path)
    layers = getattr(parent, name)
    setattr(parent, name, layers[: stack.traced])
    try:
        yield
    finally:
        setattr(parent, name, layers)


def _prefix(kinds: tuple[int, ...]) -> int:
    """Length of the shortest prefix that holds each kind twice, or once when there is only one."""
    needed = {kind: min(2, kinds.count(kind)) for kind in kinds}
    for index, kind in enumerate(kinds):
        needed[kind] -= 1
        if all(count <= 0 for count in needed.values()):
            return index + 1
    return len(kinds)


def _kind(layer: nn.Module, index: int, total: int) -> Hashable:
    modules = tuple((name, type(child), _settings(child, index)) for name, child in layer.named_modules())
    tensors = (*layer.named_parameters(), *layer.named_buffers())
    shapes = tuple((name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors)
    return (modules, shapes, _configuration(layer, index, total))


def _settings(module: nn.Module, index: int) -> tuple[tuple[str, Any], ...]:
    """Plain values and functions that a module stores; its own layer number counts as equal in every layer."""
    return tuple(
        (name, "its own number" if _is_layer_number(name, value) and value == index else value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, (bool, int, float, str, FunctionType)) and not name.startswith("_")
    )


def _is_layer_number(name: str, value: Any) -> bool:
    return ("layer" in name or "idx" in name) and type(value) is int  # False is a setting that equals 0


def _configuration(layer: nn.Module, index: int, total: int) -> tuple[tuple[str, str], ...]:
    """What the model's configuration says of this layer: entry ``index`` of every list with one entry per layer."""
    configs = {
        id(config): config for child in layer.modules() if (config := getattr(child, "config", None)) is not None
    }
    return tuple(
        (name, repr(values[index]))
        for config in configs.values()
        for name, values in sorted(vars(config).items())
        if isinstance(values, (list, tuple)) and len(values) == total
    )
