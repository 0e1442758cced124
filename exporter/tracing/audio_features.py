"""What a feature extractor does, as a graph of standard operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.feature_ways import feature_module
from jisu.exporter.tracing.encoder_input import FRAMES
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_outputs, rename_dims

if TYPE_CHECKING:
    from jisu.exporter.sources.audio import AudioSource

AUDIO, SAMPLES = "audio", "samples"


class _Root(nn.Module):
    def __init__(self, traced: nn.Module) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, audio: Tensor) -> Tensor:
        features: Tensor = self.traced(audio)
        return features


def trace_features(audio: AudioSource) -> ir.Model:
    """Trace what makes samples, ``audio`` float32 [B, samples], into the features that the model reads.

    Raises:
        InputError: no known way gives what the extractor gives.
    """
    settings = audio.settings
    root = _Root(feature_module(audio)).eval()
    samples = settings.window or int(1.3 * settings.sampling_rate)
    # Left to torch, which cannot prove of frames that there are several; that none is fixed is seen below.
    shapes = ({0: torch.export.Dim("B", min=1), 1: torch.export.Dim.AUTO},)
    model = run_exporter(root, (torch.zeros((2, samples)),), shapes)
    graph = model.graph
    graph.inputs[0].name = AUDIO
    name_outputs(graph, [settings.input_name])
    letters = {str(dim): letter for dim, letter in zip(dims_of(graph.inputs[0]), ("B", SAMPLES), strict=True)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    if dims_of(graph.inputs[0]) != ("B", SAMPLES):
        raise InputError(
            f"The trace of what {type(audio.extractor).__name__} does works for one length only",
            received=f"dims {list(dims_of(graph.inputs[0]))}",
            allowed="any number of samples",
            fix="Report this model: its features are known, and cannot be traced.",
        )
    growing = settings.dims.index(None) if None in settings.dims else _growing(audio)
    dims = [dim if index != growing else FRAMES for index, dim in enumerate(settings.dims)]
    graph.outputs[0].shape = ir.Shape(["B", *dims])
    clean(root, model, [])
    return model


def _growing(audio: AudioSource) -> int:
    """The axis that is longer for a recording longer than the window."""
    window = audio.settings.window or 1
    longer = audio.features(np.zeros(2 * window, np.float32)).shape[1:]
    return next(axis for axis, (one, dim) in enumerate(zip(longer, audio.settings.dims, strict=True)) if one != dim)
