"""The decoder of a model that reads images: a causal language model whose embeddings may be rows of image features.

The trace leaves a mark where image features enter, and where positions do; `add_image_inputs` puts the arithmetic in
their places. It reads inputs that become optional, so that the same graph reads plain text without any of them, and
every pass sees an ordinary decoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jisu.exporter.contract.signature import IMAGE_FEATURES, IMAGE_INDEX, IMAGE_SHIFTS, TOKEN_TYPES
from jisu.exporter.graph.match import emit, new_constant, replace
from jisu.exporter.sources.image_sight import Sight
from jisu.exporter.sources.image_text import has_axes
from jisu.exporter.sources.layers import find_layers
from jisu.exporter.tracing.cache import StateCache
from jisu.exporter.tracing.causal_lm import CausalLM

DOMAIN = "jisu.marks"
_FEATURES, _SHIFTS, _TYPES = "ImageFeatures", "ImageShifts", "TokenTypes"
# Rows of positions where a token of an image has a place in time, height and width.
AXES = 3


class ImageDecoder(CausalLM):
    """The text part of a model, which marks in a trace where images come in.

    Args:
        deep: decoder layers, from the first, to whose outputs further columns of the image features are added.
        sight: how the model is told which tokens see each other; None where each sees only those before it.
    """

    # While the model is watched.
    _shifts, _sight = False, None

    def __init__(self, model: PreTrainedModel, *, deep: int = 0, sight: Sight | None = None) -> None:
        super().__init__(model)
        self._deep, self._sight = deep, sight
        self._shifts = has_axes(model)

    def forward(self, input_ids: Tensor, past_length: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with self._marked():
            return super().forward(input_ids, past_length, state)

    def _position_ids(self, positions: Tensor) -> Tensor:
        if not self._shifts or not torch.compiler.is_exporting():
            return positions
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{_SHIFTS}", (positions,), dtype=positions.dtype, shape=(AXES, *positions.shape), version=1
        )

    def _arguments_of_tokens(self, cache: StateCache, buffer: Tensor) -> dict[str, Tensor]:
        if self._sight is None or not torch.compiler.is_exporting():
            return {}
        cache.begins = True
        types = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{_TYPES}",
            (buffer,),
            {"plain": self._sight.plain},
            dtype=torch.int64,
            shape=(buffer.shape[0], buffer.shape[2]),
            version=1,
        )
        return {self._sight.argument: types}

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        if not torch.compiler.is_exporting():
            yield
            return
        stack = find_layers(self.model)
        layers: Any = [] if stack is None else self.model.get_submodule(stack.path)
        places: list[Any] = [self.model.get_input_embeddings(), *list(layers)[: self._deep]]
        hooks = [place.register_forward_hook(_mark(number)) for number, place in enumerate(places)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _mark(number: int) -> Any:
    def mark(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        marked = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{_FEATURES}",
            (hidden,),
            {"number": number},
            dtype=hidden.dtype,
            shape=hidden.shape,
            version=1,
        )
        return (marked, *output[1:]) if isinstance(output, tuple) else marked

    return mark


def add_image_inputs(graph: ir.Graph, *, deep: int = 0) -> None:
    """Replace the marks of a traced decoder by what reads the inputs for images.

    Embeddings become ``where(index > 0, features[index - 1], embedding)``; to the outputs of deeper layers their
    columns of the features are added in the same places. Positions [B, T] become ``positions + shifts`` [3, B, T].
    Types of tokens are spread over the buffer [B, capacity], and counted as the model counts them.
    """
    marks = [node for node in graph if node.domain == DOMAIN]
    first = next(node for node in marks if node.op_type == _FEATURES)
    width = int(first.inputs[0].shape[-1])  # type: ignore[union-attr, index, arg-type]
    features = _input(graph, IMAGE_FEATURES, ir.DataType.FLOAT, ["image_rows", width * (1 + deep)])
    index = _input(graph, IMAGE_INDEX, ir.DataType.INT64, ["index_rows", "index_columns"])
    start = next(iter(graph))
    zero, one = (new_constant(graph, f"image_{n}", np.array(n, np.int64)) for n in (0, 1))
    row = emit(start, "Max", [emit(start, "Sub", [index, one]), zero])
    shown = emit(start, "Greater", [index, zero])
    last = new_constant(graph, "image_axis_minus_1", np.array([-1], np.int64))
    shown = emit(start, "Unsqueeze", [shown, last])  # [B, T, 1]
    for node in marks:
        hidden = node.inputs[0]
        assert hidden is not None
        if node.op_type == _SHIFTS:
            shifts = _input(graph, IMAGE_SHIFTS, ir.DataType.INT64, [AXES, "shift_rows", "shift_columns"])
            result = emit(node, "Add", [hidden, shifts], like=node.outputs[0])
        elif node.op_type == _TYPES:
            types = _input(graph, TOKEN_TYPES, ir.DataType.INT64, ["type_rows", "type_columns"])
            sizes = [emit(node, "Shape", [hidden], {"start": axis, "end": axis + 1}) for axis in (0, 2)]
            spread = emit(node, "Expand", [types, emit(node, "Concat", sizes, {"axis": 0})])
            number = node.attributes.get_int("plain", 0)
            plain = new_constant(graph, f"token_type_{number}", np.array(number, np.int64))
            result = emit(node, "Add", [spread, plain], like=node.outputs[0])
        else:
            number = node.attributes.get_int("number", 0)
            columns = features
            if deep:
                ends = [np.array([end * width], np.int64) for end in (number, number + 1)]
                bounds = [new_constant(graph, f"image_column_{int(end[0])}", end) for end in ends]
                columns = emit(node, "Slice", [features, *bounds, last])
            gathered = emit(node, "Gather", [columns, row], {"axis": 0})
            if number:
                nothing = new_constant(graph, "image_nothing", np.array(0, np.float32))
                added = emit(node, "Where", [shown, gathered, nothing])
                result = emit(node, "Add", [hidden, added], like=node.outputs[0])
            else:
                result = emit(node, "Where", [shown, gathered, hidden], like=node.outputs[0])
        replace(node.outputs[0], result)
    graph.remove(marks, safe=True)
    graph.opset_imports.pop(DOMAIN, None)


def _input(graph: ir.Graph, name: str, dtype: ir.DataType, sizes: list[int | str]) -> ir.Value:
    """A further input, made once; its dims have names of their own, since one row of defaults stands for any number."""
    known = next((value for value in graph.inputs if value.name == name), None)
    if known is not None:
        return known
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(sizes))
    graph.inputs.append(value)
    return value
