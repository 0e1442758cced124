"""Traces the encoder's half of a model that turns one text into another."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, SOURCE, state_specs
from jisu.exporter.tracing.encoder_decoder import EncoderDecoder, EncoderHalf
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_outputs, rename_dims

# Sizes of the example: different, and above one, since torch.export fixes dimensions of size 0 and 1.
_BATCH, _TOKENS = 2, 5


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: EncoderHalf) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        state: list[Tensor] = self.traced(input_ids, attention_mask)
        return state


def trace_encoder(module: EncoderDecoder, *, longest: int | None = None) -> ir.Model:
    """Trace once.

    Args:
        module: in eval mode.
        longest: tokens that a source may have, where the model has a limit and looks at it.

    Returns:
        A graph with inputs ``input_ids`` and ``attention_mask``, int64 [B, source], and as outputs the state tensors of
        kind ``encoder``. Weights are views of the module's parameters, not copies.

    Raises:
        InputError: the module cannot be traced, or froze a dimension that has to stay dynamic.
    """
    root = _Root(EncoderHalf(module)).eval()
    ids = torch.ones((_BATCH, _TOKENS), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0  # one row is padded: a mask of ones alone is pruned
    dims = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim(SOURCE, min=1, max=longest)}
    model = run_exporter(root, (ids, mask), (dims, dims))
    graph = model.graph
    specs = [spec for spec in state_specs(module.state_spec()) if spec.kind == "encoder"]
    if len(graph.inputs) != 2 or len(graph.outputs) != len(specs):
        raise InputError(
            "The trace of the encoder lost a tensor",
            received=f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            allowed=f"2 inputs and {len(specs)} outputs",
            fix="Make the forward use every argument.",
        )
    for value, name in zip(graph.inputs, (INPUT_IDS, ATTENTION_MASK), strict=True):
        value.name = name
    name_outputs(graph, [spec.present for spec in specs])
    letters = {str(dim): letter for dim, letter in zip(dims_of(graph.inputs[0]), ("B", SOURCE), strict=True)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    for value, spec in zip(graph.outputs, specs, strict=True):
        if dims_of(value) != spec.dims:
            raise InputError(
                f"The trace froze or changed a dimension of {value.name}",
                received=f"dims {list(dims_of(value))}",
                allowed=f"dims {list(spec.dims)}",
                fix="Remove what depends on the example's sizes from the forward.",
            )
    clean(root, model, [])
    return model
