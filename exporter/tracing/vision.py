"""Traces what a model makes of one image: pixels to rows of features in the space of the decoder's embeddings.

Every model of transformers that reads images has `get_image_features`. What it is called with follows from what the
checkpoint's own image processing gives, and what it computes from sizes alone is an input of the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import IMAGE_FEATURES
from jisu.exporter.sources.image_text import image_features_of
from jisu.exporter.tracing.one_image import one_at_a_time
from jisu.exporter.tracing.routing import ATTENTION, routed
from jisu.exporter.tracing.torch_exporter import place_of, run_exporter
from jisu.exporter.tracing.trace import clean, name_inputs, name_outputs
from jisu.exporter.tracing.unpacked_tiles import unpacked_tiles

PIXELS, TILES_MASK = "pixel_values", "pixel_attention_mask"
# An axis of a vision graph's input: a size, or a number of times the letter of a dynamic one.
Axis = int | tuple[int, str]
# Sizes that an axis has at least, see `runtimes.images.grid`.
_FEWEST = {"windows": 3}


class VisionPart(nn.Module):
    """A model's ``get_image_features`` for one image -> float32 [rows, features].

    The features of a row are those that take an embedding's place, and behind them those that are added to the outputs
    of deeper layers, where the model has some.

    Args:
        nested: the model takes the tiles of several prompts, [1, tiles, 3, H, W].
        sized: the model takes the size of the picture.
        packed: the model lays the features of tiles by the size of the picture, which is left to a runtime.
        tiles_masked: the model is told which tiles are real.
        names: of the inputs, in their order.
    """

    weight_prefix = "model."

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        names: tuple[str, ...],
        nested: bool,
        sized: bool,
        packed: bool = False,
        tiles_masked: bool = False,
    ) -> None:
        super().__init__()
        self.model, self._tiles_masked = model, tiles_masked
        self._names, self._nested, self._sized, self._packed = names, nested, sized, packed

    def forward(self, *inputs: Tensor) -> Tensor:
        arguments: dict[str, Any] = dict(zip(self._names, inputs, strict=True))
        pixels: Tensor = arguments[PIXELS]
        if self._nested:
            arguments[PIXELS] = pixels[None]
        if self._tiles_masked:
            arguments[TILES_MASK] = torch.ones((1, pixels.shape[0]), dtype=torch.bool)
        if self._packed:
            arguments["image_sizes"] = [(1, 1)]
        elif self._sized:
            arguments["image_sizes"] = [(pixels.shape[2], pixels.shape[3])]
        if pixels.dim() == 2:
            # One image is one segment; what its grid would say is given.
            arguments["image_grid_thw"] = _grid(arguments.get("position_ids"))
            arguments["cu_seqlens"] = torch.arange(2) * pixels.shape[0]
        packing = unpacked_tiles(self.model) if self._packed else contextlib.nullcontext()
        with routed(self.model, ATTENTION), packing, one_at_a_time():
            return joined_features(image_features_of(self.model)(**arguments, return_dict=True))


def _grid(positions: Tensor | None) -> Tensor:
    """Frames, lines and columns of one image's patches, int64 [1, 3]; all one where no input says how many."""
    one = torch.ones((1,), dtype=torch.int64)
    if positions is None:
        return one.repeat(3)[None]
    return torch.cat([one, positions.amax(0) + 1])[None]


def joined_features(output: Any) -> Tensor:
    """What ``get_image_features`` returns as one tensor [rows, features], of all its images one behind the other."""
    parts = [output.pooler_output, *(getattr(output, "deepstack_features", None) or [])]
    return torch.cat([_rows(part) for part in parts], dim=-1)


def _rows(part: Any) -> Tensor:
    pieces = [part] if isinstance(part, Tensor) else list(part)
    rows = [piece.reshape(-1, piece.shape[-1]) for piece in pieces]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def trace_vision(
    part: VisionPart, example: Mapping[str, npt.NDArray[Any]], axes: Mapping[str, tuple[Axis, ...]]
) -> ir.Model:
    """Trace once.

    Args:
        part: in evaluation mode.
        example: inputs of one image, by name in the order of the part's.
        axes: of each input.

    Returns:
        A graph with these inputs and the output ``image_features`` float32 [rows, features].

    Raises:
        InputError: the model cannot be traced, or froze an axis.
    """
    root = _Root(part).eval()
    letters = sorted({axis[1] for dims in axes.values() for axis in dims if isinstance(axis, tuple)})
    dims = {letter: torch.export.Dim(letter, min=_FEWEST.get(letter, 1), max=1 << 20) for letter in letters}
    shapes = tuple(
        {
            place: dims[axis[1]] if axis[0] == 1 else axis[0] * dims[axis[1]]
            for place, axis in enumerate(axes[name])
            if isinstance(axis, tuple)
        }
        for name in example
    )
    arguments = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in example.values())
    try:
        model = run_exporter(root, arguments, (shapes,))
    except InputError as error:
        raise InputError(
            f"What reads images in {type(part.model).__name__} is no graph for images of all sizes",
            received="a loop, a choice or a size that differs from image to image" + place_of(error),
            allowed="steps that are the same for every image",
            fix="Choose another model, or rewrite the part of it that is named.",
        ) from error
    graph = model.graph
    name_inputs(
        graph,
        list(example),
        outputs=1,
        what="The trace of what reads images",
        fix="Choose a model that reads every input.",
    )
    for value, name in zip(graph.inputs, example, strict=True):
        _name_axes(value, axes[name])
    name_outputs(graph, [IMAGE_FEATURES])
    clean(root, model, [])
    return model


def _name_axes(value: ir.Value, axes: tuple[Axis, ...]) -> None:
    """Give the dims of an input their names; raises InputError when one of them was frozen."""
    sizes = [axis if isinstance(axis, int) else f"{axis[0]}*{axis[1]}" if axis[0] > 1 else axis[1] for axis in axes]
    traced = list(value.shape or ())
    if any(isinstance(old, int) and not isinstance(new, int) for old, new in zip(traced, sizes, strict=True)):
        raise InputError(
            f"The trace froze an axis of {value.name}",
            received=f"dims {traced}",
            allowed=f"dims {sizes}",
            fix="Choose a model that reads images of any size in this way.",
        )


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: VisionPart) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, *inputs: Tensor) -> Tensor:
        features: Tensor = self.traced(*inputs)
        return features
