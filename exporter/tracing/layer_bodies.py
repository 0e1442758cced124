"""Are the traced nodes of two layers the same, so that a copy of one is what another layer would have been traced as?

They may differ only in the layer's own parameters, its state tensors and the hidden states that come in. Anything else
(a value handed from layer to layer besides the hidden states, a constant that counts layers) raises
`NotRepeatableError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir


class NotRepeatableError(Exception):
    """The traced bodies of equal layers are not equal; says where."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """One layer's nodes in order, and the one value that later nodes read: the layer's hidden states."""

    nodes: tuple[ir.Node, ...]
    hidden: ir.Value


@dataclass(frozen=True)
class LayerPair:
    """A traced layer and another one of its kind, by their numbers among the traced bodies."""

    bodies: Sequence[Body]
    number: int
    twin: int


class StateInputs:
    """The graph inputs that hold the state of all traced layers, layer by layer."""

    def __init__(self, values: Sequence[ir.Value], *, per_layer: int) -> None:
        self._places = {id(value): place for place, value in enumerate(values)}
        self._per_layer = per_layer

    def __contains__(self, value: ir.Value) -> bool:
        return id(value) in self._places

    def are_apart(self, one: ir.Value, other: ir.Value, *, layers: int) -> bool:
        """Whether two of them have the same part in layers that lie so far apart."""
        return self._places[id(one)] - self._places[id(other)] == layers * self._per_layer


def require_repeat(pair: LayerPair, *, path: str, state: StateInputs) -> None:
    """Walk two bodies side by side and raise NotRepeatableError at the first difference a copy would not reproduce.

    Args:
        path: what the names of all layers' parameters begin with.
    """
    _Comparison(pair, path=path, state=state).run()


class _Comparison:
    def __init__(self, pair: LayerPair, *, path: str, state: StateInputs) -> None:
        self._pair = pair
        self._state = state
        self._own, self._theirs = f"{path}.{pair.number}.", f"{path}.{pair.twin}."
        self._counterpart: dict[int, ir.Value] = {}

    def run(self) -> None:
        number, twin = self._pair.number, self._pair.twin
        nodes, twins = self._pair.bodies[number].nodes, self._pair.bodies[twin].nodes
        if len(nodes) != len(twins):
            raise NotRepeatableError(f"layers {twin} and {number} differ in their number of operators")
        for ours, theirs in zip(nodes, twins, strict=True):
            if (ours.domain, ours.op_type) != (theirs.domain, theirs.op_type) or len(ours.inputs) != len(theirs.inputs):
                raise NotRepeatableError(f"layers {twin} and {number} differ at {theirs.op_type} and {ours.op_type}")
            if {k: a.value for k, a in ours.attributes.items()} != {k: a.value for k, a in theirs.attributes.items()}:
                raise NotRepeatableError(f"an attribute of {ours.op_type} {ours.name} counts layers")
            for one, other in zip(ours.inputs, theirs.inputs, strict=True):
                if not self._agree(one, other):
                    raise NotRepeatableError(
                        f"{ours.op_type} of layer {number} reads {one and one.name}, "
                        f"of layer {twin} {other and other.name}"
                    )
            self._counterpart.update({id(a): b for a, b in zip(ours.outputs, theirs.outputs, strict=True)})

    def _agree(self, one: ir.Value | None, other: ir.Value | None) -> bool:
        """Whether an input of ours is to our layer what one of theirs is to theirs."""
        bodies, number, twin = self._pair.bodies, self._pair.number, self._pair.twin
        if one is None or other is None:
            return one is other
        if id(one) in self._counterpart:
            return self._counterpart[id(one)] is other
        if number > 0 and one is bodies[number - 1].hidden:
            return twin == 0 or other is bodies[twin - 1].hidden
        if one in self._state and other in self._state:
            return self._state.are_apart(one, other, layers=number - twin)
        if one.const_value is not None and other.const_value is not None:
            name = one.name or ""
            if name.startswith(self._own):
                return (other.name or "") == self._theirs + name[len(self._own) :]
            return one is other or _equal_constants(one.const_value, other.const_value)
        return one is other


def _equal_constants(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    return (
        one.dtype == other.dtype
        and tuple(one.shape) == tuple(other.shape)
        and bool((one.numpy() == other.numpy()).all())
    )
