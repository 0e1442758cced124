"""The two graphs of a model that reads images: what it makes of one image, and its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.sources.image_processor import process_image
from jisu.exporter.sources.image_text import image_output
from jisu.exporter.sources.image_ways import made_images
from jisu.exporter.tracing.image_decoder import ImageDecoder, add_image_inputs
from jisu.exporter.tracing.trace import trace
from jisu.exporter.tracing.unpacked_tiles import packs_tiles
from jisu.exporter.tracing.vision import PIXELS, TILES_MASK, Axis, VisionPart, joined_features, trace_vision

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.exporter.sources.image_text import VisionSource
    from jisu.exporter.sources.source import Source

_TILES = 3  # of the example: above one, since torch.export fixes dimensions of size 0 and 1
_EDGE = 64
_EDGES = (_EDGE, 128, 256, 512)
_TILES_AXIS = (1, "tiles")


def trace_image_decoder(source: Source) -> ir.Model:
    """Trace the decoder once, with the optional inputs for images.

    Raises:
        InputError: it cannot be traced, or cannot continue from a state.
    """
    assert source.vision is not None
    deep = deep_layers(source.vision)
    module: Any = source.module
    decoder = ImageDecoder(module, deep=deep, sight=source.vision.sight)
    # The first layers differ from the others where features are added behind them.
    model = trace(decoder, decoder.state_spec(), repeats=not deep)
    add_image_inputs(model.graph, deep=deep)
    return model


def trace_images(vision: VisionSource) -> ir.Model:
    """Trace what reads one image.

    Raises:
        InputError: it cannot be traced.
    """
    example = _example(vision)
    axes = _axes(vision, example)
    if axes[PIXELS][0] == _TILES_AXIS:
        example = {PIXELS: np.concatenate([example[PIXELS]] * _TILES)[:_TILES]}
    return trace_vision(vision_part(vision, tuple(example)), example, axes)


def _example(vision: VisionSource) -> dict[str, npt.NDArray[Any]]:
    """The inputs of an image of more than one line and column, where there are some: a trace takes one for the only."""
    from jisu.runtimes.images.ways import prepare_image

    for edge in _EDGES:
        prepared = prepare_image(made_images(edge)[1], vision.settings)
        if 1 not in (prepared.rows, prepared.columns):
            break
    return prepared.inputs


def _axes(vision: VisionSource, example: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[Axis, ...]]:
    """Which axes of the inputs differ from image to image: the number of tiles, or of patches and windows."""
    pixels = example[PIXELS]
    if pixels.ndim == 4 and vision.settings.preparation == "whole-patches":
        edges = vision.settings.settings["patch_size"]
        high, wide = (edges["height"], edges["width"]) if isinstance(edges, dict) else (edges, edges)
        return {PIXELS: (1, 3, (int(high), "lines"), (int(wide), "columns"))}
    if pixels.ndim == 4:
        return {PIXELS: (_TILES_AXIS, *pixels.shape[1:])}
    block = int(vision.settings.settings["merge_size"]) ** 2
    letters: dict[str, tuple[int, str]] = {"window_index": (1, "blocks"), "cu_window_seqlens": (1, "windows")}
    return {name: (letters.get(name, (block, "blocks")), *array.shape[1:]) for name, array in example.items()}


def vision_part(vision: VisionSource, names: tuple[str, ...]) -> VisionPart:
    """The module that the vision graph is traced from, called as the processor's arrays say."""
    arrays = process_image(vision.processor, made_images(_EDGE)[0]).arrays
    sized, packed = "image_sizes" in arrays, packs_tiles(vision.model)
    nested = arrays[PIXELS].ndim == 5 and not packed
    masked = TILES_MASK in arrays and arrays[TILES_MASK].ndim == 2  # others have a mask of each tile's pixels
    return VisionPart(vision.model, names=names, nested=nested, sized=sized, packed=packed, tiles_masked=masked)


def graph_inputs(vision: VisionSource, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """What a runtime feeds the vision graph for an image uint8 [H, W, 3]."""
    from jisu.runtimes.images.ways import prepare_image

    return prepare_image(image, vision.settings).inputs


def source_features(vision: VisionSource, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Rows of features of an image uint8 [H, W, 3] by the model itself, float32 [rows, features]."""
    features: npt.NDArray[np.float32] = joined_features(image_output(vision, image)).float().numpy()
    return features


def deep_layers(vision: VisionSource) -> int:
    """Decoder layers to whose outputs image features are added, besides the embeddings."""
    output = image_output(vision, made_images(_EDGE)[0])
    return len(getattr(output, "deepstack_features", None) or [])
