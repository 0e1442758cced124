"""Models that label each frame of a recording, and their trace: no state, nothing carried on, no padding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import LOGITS
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.tracing.encoder_input import FRAMES, audio_input
from jisu.exporter.tracing.routing import SPELLED_OUT, attend
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_outputs, rename_dims

if TYPE_CHECKING:
    from jisu.exporter.sources.audio import AudioSource

ATTENTION = "jisu-frames"


class FrameLabels(nn.Module):
    """A transformers model as ``forward(features) -> logits`` of whole recordings of one length."""

    weight_prefix = "model."

    def __init__(self, model: Any, audio: AudioSource) -> None:
        super().__init__()
        self.model = model
        self.reads = audio_input(audio)
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def forward(self, features: Tensor) -> Tensor:
        """float32 [B, ...] -> float32 [B, frames, labels]."""
        with _attention_of(self.model, self._attention):
            logits = self.model(**{self.reads.name: features}).logits
        return torch.as_tensor(logits).to(torch.float32)

    def _asks_for_attention(self) -> bool:
        """Whether the model asks transformers' interface for an attention that `attend` knows, found by listening."""
        calls: list[bool] = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            calls.append(False)
            output = attend(*arguments, **options)
            calls[-1] = True
            return output

        ours = _attention_of(self.model, ATTENTION, attention_function=listen)
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self.model(**{self.reads.name: self.reads.example[:1]})
        return bool(calls) and all(calls)


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: FrameLabels) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.traced(features)
        return logits


def trace_frames(module: FrameLabels, *, labels: int) -> ir.Model:
    """Trace once.

    Args:
        module: in eval mode.
        labels: columns that the logits have to have.

    Returns:
        A graph with the features of recordings as its input, and the output ``logits`` float32 [B, T, labels]. Weights
        are views of the module's parameters, not copies.

    Raises:
        InputError: the module cannot be traced, or froze a dimension that has to stay dynamic.
    """
    root, reads = _Root(module).eval(), module.reads
    # The number of frames follows from that of the samples by a division, about which torch can prove too little.
    shapes = {0: torch.export.Dim("B", min=1)} | {
        axis: torch.export.Dim.AUTO for axis, dim in enumerate(reads.dims) if dim == FRAMES
    }
    model = run_exporter(root, (reads.example,), (shapes,))
    graph = model.graph
    name = type(module.model).__name__
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise InputError(
            f"The trace of {name} lost its input",
            received=f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            allowed="features in, logits out",
            fix="Choose a model that labels frames.",
        )
    graph.inputs[0].name = reads.name
    name_outputs(graph, [LOGITS])
    traced = dims_of(graph.inputs[0])
    letters = {str(dim): str(letter) for dim, letter in zip(traced, reads.dims, strict=True) if isinstance(dim, str)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    logits = graph.outputs[0]
    logits_dims = dims_of(logits)
    if len(logits_dims) == 3:
        logits.shape = ir.Shape([logits_dims[0], "T", logits_dims[2]])
    for value, dims in ((graph.inputs[0], reads.dims), (logits, ("B", "T", labels))):
        if dims_of(value) != dims:
            raise InputError(
                f"The trace of {name} froze or changed a dimension of {value.name}",
                received=f"dims {list(dims_of(value))}",
                allowed=f"dims {list(dims)}",
                fix="Choose a model that labels frames of recordings of any length.",
            )
    clean(root, model, [])
    return model


def _no_mask(**_: Any) -> None:
    """Nothing is padding: every frame is of the recording."""


@contextlib.contextmanager
def _attention_of(model: PreTrainedModel, implementation: str, *, attention_function: Any = attend) -> Iterator[None]:
    """Route the model's attention through this package for one call, then restore its own choice."""
    before = model.config._attn_implementation
    if implementation == SPELLED_OUT and before is None:
        yield
        return
    AttentionInterface.register(ATTENTION, attention_function)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    try:
        if before != implementation:
            model.set_attn_implementation(implementation)
        yield
    finally:
        if before != implementation:
            model.set_attn_implementation(before)
