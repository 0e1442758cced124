"""Copies of traced decoder layers for the layers that were not traced.

A body is the run of nodes that one layer's forward produced. Before a body is copied it is compared with another traced
layer of its kind, see `exporter.tracing.layer_bodies`; where they differ the caller traces every layer instead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

import onnx_ir as ir

from jisu.exporter.graph.match import sizes_of
from jisu.exporter.sources.layers import LayerStack
from jisu.exporter.tracing.layer_bodies import Body, LayerPair, NotRepeatableError, StateInputs, require_repeat

_SCOPES = "pkg.torch.onnx.name_scopes"


def layer_of(node: ir.Node, path: str) -> int | None:
    """Number of the layer below ``path`` whose forward produced the node, from the scopes that torch recorded."""
    scopes = node.metadata_props.get(_SCOPES)
    for scope in ast.literal_eval(scopes) if scopes else ():
        if scope.startswith(path + "."):
            number = scope[len(path) + 1 :].split(".", 1)[0]
            if number.isdigit():
                return int(number)
    return None


def find_bodies(graph: ir.Graph, path: str, count: int, *, may_end: bool = False) -> list[Body]:
    """Split the nodes of layers 0..count-1 out of the graph.

    Args:
        may_end: whether what the last one hands on may be an output of the graph, as the states of an encoder are.

    Raises:
        NotRepeatableError: a layer left no nodes, or hands on something other than one tensor of hidden states.
    """
    nodes: list[list[ir.Node]] = [[] for _ in range(count)]
    numbers: dict[int, int | None] = {id(node): layer_of(node, path) for node in graph}
    for node in graph:
        number = numbers[id(node)]
        if number is None and _SCOPES not in node.metadata_props:
            number = numbers[id(node)] = _layer_around(node, numbers)
        if number is not None and number < count:
            nodes[number].append(node)
    outputs = {id(value) for value in graph.outputs}
    bodies = []
    for number, own in enumerate(nodes):
        inside = {id(node) for node in own}
        leaving = [
            value for node in own for value in node.outputs if any(id(user) not in inside for user in value.consumers())
        ]
        ends = may_end and number == count - 1
        if len(leaving) != 1 or (id(leaving[0]) in outputs and not ends):
            names = [value.name for value in leaving]
            raise NotRepeatableError(f"layer {number} hands on {names} instead of its hidden states alone")
        bodies.append(Body(nodes=tuple(own), hidden=leaving[0]))
    return bodies


def _layer_around(node: ir.Node, numbers: dict[int, int | None]) -> int | None:
    """The layer that a node without a record reads from, when nothing outside reads it: torch (2.13) forgets splits."""
    before = {numbers[id(maker)] for value in node.inputs if value is not None and (maker := value.producer())}
    after = {numbers[id(user)] for value in node.outputs for user in value.consumers()}
    return after.pop() if len(after) == 1 and after <= before else None


def stamp_layers(
    graph: ir.Graph, stack: LayerStack, prefix: str, tensor_of: Callable[[str], ir.TensorProtocol], state_per_layer: int
) -> list[ir.Value]:
    """Append the layers that were not traced and return every layer's hidden states, in order.

    Args:
        graph: holds the traced layers; its state inputs are the last ``traced * state_per_layer`` inputs, its state
            outputs the last as many outputs.
        stack: which layer copies which.
        prefix: what parameter names in the graph have before the module's own path, with its dot.
        tensor_of: parameter path -> its tensor.
        state_per_layer: state tensors that each layer owns.
    """
    path = f"{prefix}{stack.path}"
    bodies = find_bodies(graph, path, stack.traced)
    state = StateInputs(graph.inputs[-stack.traced * state_per_layer :], per_layer=state_per_layer)
    state_out = {id(value): place for place, value in enumerate(graph.outputs[-stack.traced * state_per_layer :])}
    templates = [stack.template(layer) for layer in range(stack.traced, stack.total)]
    for number in set(templates):
        twin = stack.twin(number)
        if number == 0 or twin is None:
            raise NotRepeatableError(f"layer {number} has no other layer to be compared with")
        require_repeat(LayerPair(bodies, number, twin), path=path, state=state)

    last = bodies[-1]
    after = [(user, place) for user, place in last.hidden.uses() if all(user is not node for node in last.nodes)]
    hidden = [body.hidden for body in bodies]
    position = last.nodes[-1]
    for offset, source in enumerate(templates):
        number = stack.traced + offset
        copier = _Copier(graph, path, source, number, tensor_of)
        copier.values[id(bodies[source - 1].hidden)] = hidden[-1]
        for place in range(state_per_layer):
            old = graph.inputs[len(graph.inputs) - (stack.traced + offset - source) * state_per_layer + place]
            copier.values[id(old)] = new = copier.fresh(old)
            copier.new_state.append(new)
        copies = [copier.copy(node) for node in bodies[source].nodes]
        graph.insert_after(position, copies)
        position = copies[-1]
        graph.inputs.extend(copier.new_state)
        produced = [value for node in bodies[source].nodes for value in node.outputs if id(value) in state_out]
        if len(produced) != state_per_layer:
            raise NotRepeatableError(f"layer {source} writes {len(produced)} of its {state_per_layer} state tensors")
        produced.sort(key=lambda value: state_out[id(value)])
        graph.outputs.extend(copier.values[id(value)] for value in produced)
        hidden.append(copier.values[id(bodies[source].hidden)])
    for user, place in after:
        user.replace_input_with(place, hidden[-1])
    return hidden


class _Copier:
    """Copies one body's nodes for another layer number."""

    def __init__(
        self, graph: ir.Graph, path: str, source: int, number: int, tensor_of: Callable[[str], ir.TensorProtocol]
    ) -> None:
        self.graph = graph
        self.source = f"{path}.{source}."
        self.target = f"{path}.{number}."
        self.number = number
        self.tensor_of = tensor_of
        self.values: dict[int, ir.Value] = {}
        self.new_state: list[ir.Value] = []

    def fresh(self, value: ir.Value) -> ir.Value:
        return ir.Value(name=f"{value.name}.layer{self.number}", type=value.type, shape=value.shape)

    def copy(self, node: ir.Node) -> ir.Node:
        outputs = [self.fresh(value) for value in node.outputs]
        copied = ir.Node(
            node.domain,
            node.op_type,
            [self._input(value) for value in node.inputs],
            list(node.attributes.values()),
            outputs=outputs,
            version=node.version,
            name=f"{node.name}.layer{self.number}",
            metadata_props={_SCOPES: node.metadata_props.get(_SCOPES, "[]").replace(self.source, self.target)},
        )
        self.values.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})
        return copied

    def _input(self, value: ir.Value | None) -> ir.Value | None:
        if value is None:
            return None
        if id(value) in self.values:
            return self.values[id(value)]
        name = value.name or ""
        if value.const_value is None or not name.startswith(self.source):
            return value
        name = self.target + name[len(self.source) :]
        if name not in self.graph.initializers:
            tensor = self.tensor_of(name)
            self.graph.initializers[name] = ir.Value(
                name=name, type=value.type, shape=ir.Shape(sizes_of(tensor)), const_value=tensor
            )
        return self.graph.initializers[name]
