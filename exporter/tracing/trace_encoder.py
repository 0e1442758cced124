"""Traces the encoder's half of a model that turns a text, or sound, into a text."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK, SOURCE, state_specs
from jisu.exporter.tracing.encoder_decoder import EncoderDecoder, EncoderHalf
from jisu.exporter.tracing.encoder_input import EncoderInput
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_inputs, name_outputs, rename_dims

# Sizes of the example: different, and above one, since torch.export fixes dimensions of size 0 and 1.
_BATCH, _TOKENS = 2, 5


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: EncoderHalf) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, source: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        state: list[Tensor] = self.traced(source, mask)
        return state


def trace_encoder(module: EncoderDecoder, *, longest: int | None = None) -> ir.Model:
    """Trace once.

    Args:
        module: in eval mode.
        longest: tokens that a source may have, where the model has a limit and looks at it.

    Returns:
        A graph whose inputs are ``input_ids`` and ``attention_mask``, int64 [B, source], or the features of recordings,
        and whose outputs are the state tensors of kind ``encoder``. Weights are views of the module's parameters, not
        copies.

    Raises:
        InputError: the module cannot be traced, or froze a dimension that has to stay dynamic.
    """
    root, reads = _Root(EncoderHalf(module)).eval(), module.reads
    arguments, shapes = _example(reads, longest)
    model = run_exporter(root, arguments, shapes)
    graph = model.graph
    specs = [spec for spec in state_specs(module.state_spec()) if spec.kind == "encoder"]
    names = (reads.name, ATTENTION_MASK)[: len(arguments)]
    name_inputs(
        graph, names, outputs=len(specs), what="The trace of the encoder", fix="Make the forward use every argument."
    )
    name_outputs(graph, [spec.present for spec in specs])
    traced = dims_of(graph.inputs[0])
    letters = {str(dim): str(letter) for dim, letter in zip(traced, reads.dims, strict=True) if isinstance(dim, str)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    expected: list[tuple[ir.Value, tuple[int | str, ...]]] = [
        (graph.inputs[0], reads.dims),
        *((value, spec.dims) for value, spec in zip(graph.outputs, specs, strict=True)),
    ]
    for value, dims in expected:
        if not reads.masked:
            _name_source(value, dims)
        if dims_of(value) != dims:
            raise InputError(
                f"The trace froze or changed a dimension of {value.name}",
                received=f"dims {list(dims_of(value))}",
                allowed=f"dims {list(dims)}",
                fix="Remove what depends on the example's sizes from the forward.",
            )
    clean(root, model, [])
    return model


def _example(reads: EncoderInput, longest: int | None) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Arguments of two rows, and which of their axes stay open."""
    if not reads.masked:
        return (reads.example,), (reads.shapes,)
    ids = torch.ones((_BATCH, _TOKENS), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0  # one row is padded: a mask of ones alone is pruned
    dims = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim(SOURCE, min=1, max=longest)}
    return (ids, mask), (dims, dims)


def _name_source(value: ir.Value, dims: tuple[int | str, ...]) -> None:
    """Call the axis by its letter along which an encoder of sound leaves some positions: how many is its own affair."""
    traced = dims_of(value)
    if len(traced) == len(dims):
        named = [SOURCE if dim == SOURCE else have for have, dim in zip(traced, dims, strict=True)]
        value.shape = ir.Shape(named)
