"""Traces a module with the traced interface to the portable graph.

One trace, batch and length dynamic, state explicit.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import onnx_ir as ir
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import (
    CAPACITY,
    INPUT_IDS,
    LOGITS,
    PAST_LENGTH,
    SOURCE,
    StateItem,
    StateSpec,
    state_specs,
)
from jisu.exporter.graph.cpu_graph import widen_half
from jisu.exporter.graph.localize import LAYERS_KEY
from jisu.exporter.sources.layers import LayerStack, find_layers, only_first_layers
from jisu.exporter.tracing.experts import expand_experts
from jisu.exporter.tracing.layer_bodies import NotRepeatableError
from jisu.exporter.tracing.parameters import float32_tensor, parameter_of
from jisu.exporter.tracing.recurrent_layers import HOLDER
from jisu.exporter.tracing.stamp import find_bodies, stamp_layers
from jisu.exporter.tracing.stepwise import takes_several_tokens
from jisu.exporter.tracing.torch_exporter import TRACED, run_exporter

# Sizes of the example: all different and above one, since torch.export fixes dimensions of size 0 and 1.
_BATCH, _NEW, _CAPACITY, _SOURCE = 2, 3, 7, 5
Tokens = Literal["many", "one"]


class Traceable(Protocol):
    """What a module has to offer to be traced, see `exporter.tracing.causal_lm`; without state, token ids alone."""

    def state_spec(self) -> list[StateItem]: ...

    def __call__(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]: ...


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: nn.Module, max_positions: int | None) -> None:
        super().__init__()
        self.traced = traced
        self.max_positions = max_positions

    def forward(
        self, input_ids: Tensor, past_length: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        if past_length is None:
            output = self.traced(input_ids)
            return getattr(output, "logits", output), []
        logits, after = self.traced(input_ids, past_length, state)
        return logits, list(after)


def trace(
    module: nn.Module, items: Sequence[StateItem], *, max_positions: int | None = None, repeats: bool = True
) -> ir.Model:
    """Trace ``module`` once and repeat the decoder layers that are equal.

    Args:
        module: implements `Traceable`, in eval mode.
        items: the module's own `state_spec()`; empty for a module that takes ``input_ids`` alone.
        max_positions: tokens that it can hold; when None, what it says itself.
        repeats: its longest list holds decoder layers that are called alike, so that equal ones may be traced once.

    Returns:
        A graph with inputs ``input_ids`` int64 [B, T], ``past_length`` int64 [B] where anything reads it, and the
        state, and outputs ``logits`` [B, T, V] and the state but what an encoder writes. Weights are views of the
        module's parameters, not copies, but for those of recurrent layers. A module with a state that is not right for
        several new tokens at once, or that cannot be traced for any number of them, is traced for exactly one: T is
        then 1.

    Raises:
        InputError: the module cannot be traced, or a dimension that has to stay dynamic was frozen.
    """
    known = getattr(module, "max_positions", None) if max_positions is None else max_positions
    root, spec = _Root(module, known).eval(), state_specs(items)
    recurrent = any(item.kind == "recurrent" for item in spec)
    if recurrent and not takes_several_tokens(root, items):
        return _trace(root, spec, "one", repeats=repeats)
    try:
        return _trace(root, spec, "many", repeats=repeats)
    except InputError as reason:
        if not spec:
            raise
        logging.getLogger(__name__).info("Tracing one token at a time: %s.", reason)
        try:
            return _trace(root, spec, "one", repeats=repeats)
        except InputError:
            raise reason from None  # what stands in the way of both is said by the first


def _trace(root: nn.Module, spec: Sequence[StateSpec], tokens: Tokens, *, repeats: bool) -> ir.Model:
    # Two lists of layers, an encoder's and a decoder's, are not told apart.
    stack = None if any(item.kind == "encoder" for item in spec) else find_layers(root)
    if repeats and stack is not None and stack.traced < stack.total and len(spec) % stack.total == 0:
        try:
            return _trace_prefix(root, spec, stack, tokens)
        except NotRepeatableError as reason:
            logging.getLogger(__name__).info("Tracing every layer: %s.", reason)
    model = _export(root, spec, tokens)
    hidden: list[ir.Value] = []
    if stack is not None:
        with contextlib.suppress(NotRepeatableError):
            hidden = [body.hidden for body in find_bodies(model.graph, stack.path, stack.total)]
    return _finish(root, model, spec, hidden, tokens)


def _trace_prefix(root: nn.Module, spec: Sequence[StateSpec], stack: LayerStack, tokens: Tokens) -> ir.Model:
    per_layer = len(spec) // stack.total
    with only_first_layers(root, stack):
        model = _export(root, spec[: stack.traced * per_layer], tokens)
    hidden = stamp_layers(
        model.graph, stack, "", lambda name: float32_tensor(parameter_of(root, name), name), state_per_layer=per_layer
    )
    return _finish(root, model, spec, hidden, tokens)


def _export(root: nn.Module, spec: Sequence[StateSpec], tokens: Tokens) -> ir.Model:
    """Run torch's exporter on example inputs of the traced interface."""
    new_tokens = _NEW if tokens == "many" else 1
    sizes: dict[int | str, int] = {"B": _BATCH, CAPACITY: _CAPACITY, SOURCE: _SOURCE}
    state = [
        torch.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in item.dims], dtype=_dtype(item))
        for item in spec
    ]
    ids = torch.ones((_BATCH, new_tokens), dtype=torch.int64)
    arguments: tuple[Any, ...] = (ids, torch.tensor([1, 2]), state) if state else (ids,)
    # A model may compare lengths with the positions that it has; no more are ever asked of it. One less, since a model
    # that makes something of exactly that length has another case for it.
    longest = getattr(root, "max_positions", None)
    longest = None if longest is None or longest <= _CAPACITY + 1 else longest - 1
    batch, new = torch.export.Dim("B", min=1), torch.export.Dim("T", min=1, max=longest)
    dims: dict[str, Any] = {"B": batch, CAPACITY: torch.export.Dim(CAPACITY, min=1, max=longest)}
    dims[SOURCE] = torch.export.Dim(SOURCE, min=1)
    shapes: tuple[Any, ...] = (
        {0: batch, 1: new} if tokens == "many" else {0: batch},
        {0: batch},
        [{axis: dims[dim] for axis, dim in enumerate(item.dims) if dim in dims} for item in spec],
    )[: len(arguments)]
    return run_exporter(root, arguments, shapes)


def _finish(
    root: nn.Module, model: ir.Model, spec: Sequence[StateSpec], hidden: Sequence[ir.Value], tokens: Tokens
) -> ir.Model:
    """Give inputs, outputs and dimensions their names, and check that nothing was frozen on the way."""
    graph = model.graph
    names = [INPUT_IDS, *([PAST_LENGTH] if spec else []), *(item.past for item in spec)]
    # What an encoder wrote is only read.
    written = [item for item in spec if item.kind != "encoder"]
    name_inputs(
        graph,
        names,
        outputs=1 + len(written),
        what="The trace",
        fix="Make the forward use every argument and return every state tensor.",
    )
    name_outputs(graph, [LOGITS, *(item.present for item in written)])
    new: int | str = "T" if tokens == "many" else 1
    _name_dims(graph, spec, new)
    if spec and not graph.inputs[1].uses():  # a recurrent state needs no positions
        del graph.inputs[1]
    expected = {LOGITS: ("B", new), **{item.present: item.dims for item in written}}
    for value in graph.outputs:
        dims = dims_of(value)
        if dims[: len(expected[value.name or ""])] != expected[value.name or ""]:
            raise InputError(
                f"The trace froze or changed a dimension of {value.name}",
                received=f"dims {list(dims)}",
                allowed=f"dims {list(expected[value.name or ''])}",
                fix="Remove what depends on the example's sizes from the forward.",
            )
    clean(root, model, hidden)
    return model


def clean(root: nn.Module, model: ir.Model, hidden: Sequence[ir.Value]) -> None:
    """Take torch's records out, note where layers end, and give parameters the names of the checkpoint."""
    graph = model.graph
    graph.metadata_props.clear()
    graph.metadata_props[LAYERS_KEY] = json.dumps([value.name for value in hidden])
    model.producer_name, model.producer_version = "jisu", None
    for node in graph.all_nodes():
        # torch records stack traces, which hold paths of this machine
        node.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    # What a model itself computes in half, biases of positions for example, most CPUs do not.
    widen_half(graph)
    expand_experts(graph, lambda name: parameter_of(root, name))
    # An adapter around somebody else's module says what its own attribute adds to the names in the checkpoint.
    prefix = getattr(root.get_submodule(TRACED), "weight_prefix", "")
    for value in list(graph.initializers.values()):
        _strip_prefix(graph, value, prefix)
    model.metadata_props.clear()


def _strip_prefix(graph: ir.Graph, weight: ir.Value, prefix: str) -> None:
    """Give a parameter the name that it has in the checkpoint."""
    old = weight.name or ""
    if old.startswith(f"{TRACED}."):
        name = old.removeprefix(f"{TRACED}.").removeprefix(prefix).replace(f"{HOLDER}.", "")
        del graph.initializers[old]
        weight.name = name
        graph.initializers[name] = weight


def name_inputs(graph: ir.Graph, names: Sequence[str], *, outputs: int, what: str, fix: str) -> None:
    """Name the inputs.

    Args:
        outputs: how many it has to have.
        what: begins the sentence of an error.

    Raises:
        InputError: an input or an output is missing.
    """
    if len(graph.inputs) != len(names) or len(graph.outputs) != outputs:
        raise InputError(
            f"{what} lost a tensor",
            received=f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            allowed=f"{len(names)} inputs and {outputs} output{'s' if outputs > 1 else ''}",
            fix=fix,
        )
    for value, name in zip(graph.inputs, names, strict=True):
        value.name = name


def name_outputs(graph: ir.Graph, names: list[str]) -> None:
    """Name the outputs; a value that is an input, or two outputs at once, gets a node of its own."""
    seen: set[int] = {id(value) for value in graph.inputs}
    for place, (value, name) in enumerate(zip(list(graph.outputs), names, strict=True)):
        if id(value) in seen:
            node = ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[place] = value = node.outputs[0]
        seen.add(id(value))
        value.name = name


def _name_dims(graph: ir.Graph, spec: Sequence[StateSpec], new: int | str) -> None:
    """Replace torch's symbols (s28, s70 ...) by the names of the signature, everywhere."""
    letters: dict[str, str] = {}
    states = graph.inputs[len(graph.inputs) - len(spec) :]
    named_dims = [(graph.inputs[0], ("B", new)), *((v, s.dims) for v, s in zip(states, spec, strict=True))]
    for value, dims in named_dims:
        for traced, dim in zip(dims_of(value), dims, strict=True):
            if isinstance(dim, str):
                letters.setdefault(str(traced), dim)
    for node in graph.all_nodes():
        for value in node.outputs:
            rename_dims(value, letters)
    for value in graph.inputs:
        rename_dims(value, letters)


def rename_dims(value: ir.Value, letters: dict[str, str]) -> None:
    if value.shape is not None:
        value.shape = ir.Shape(
            [dim if isinstance(dim, int) else letters.get(str(dim), str(dim)) for dim in dims_of(value)]
        )


def dims_of(value: ir.Value) -> tuple[int | str, ...]:
    if value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)


def _dtype(item: StateSpec) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, item.dtype)
    return dtype
