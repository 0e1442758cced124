"""How the weights of what reads images or hears are stored: what a precision asks for, and integers by rounding.

Such a network is no list of decoder layers that read texts; what its products hold is found in its graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jisu.exporter.contract.artifact import AUDIO_TEXT, HEARING, HEARING_GRAPH, IMAGE_TEXT, VISION, VISION_GRAPH
from jisu.exporter.graph.match import dims, is_weight, nodes_of, producer
from jisu.exporter.graph.merge_weights import parameters_of
from jisu.exporter.precision.precision import FLOAT, HalfType, Int8MatmulFormat, Precision, WeightFormat

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.sources.source import Source

# Names for --keep: the file of each such graph, and its key in a manifest's quantization.
FEATURE_GRAPHS = {VISION: VISION_GRAPH, HEARING: HEARING_GRAPH}
# Of every precision with integers: fewer bits cost such a network more than they save.
_INTEGERS = WeightFormat(bits=8, block_size=32, symmetric=True)


def graphs_of_features(source: Source) -> tuple[str, ...]:
    """Files of the graphs that make features for this source's decoder, or would if its weights were read."""
    kind = None if source.whole is None else source.model_kind
    has = {
        VISION: source.vision is not None or kind == IMAGE_TEXT,
        HEARING: source.hearing is not None or kind == AUDIO_TEXT,
    }
    return tuple(file for file in FEATURE_GRAPHS if has[file])


def feature_format(precision: Precision, file: str, keep: Sequence[str]) -> WeightFormat | HalfType | None:
    """The format of these weights; None for float32.

    Args:
        file: the graph's, one of `FEATURE_GRAPHS`.
        keep: what stays float32; that file among it is all of the graph.
    """
    if file in keep:
        return None
    if precision.half is not None:
        return precision.half
    return _INTEGERS if isinstance(precision.layers, (WeightFormat, Int8MatmulFormat)) else None


def describe_feature_format(form: WeightFormat | HalfType | None) -> str:
    """The format in a word for the manifest."""
    if isinstance(form, WeightFormat):
        return f"{form.bits} bits in blocks of {form.block_size}"
    return FLOAT if form is None else form


def round_feature_weights(graph: ir.Graph, form: WeightFormat) -> dict[str, BlockQuantized]:
    """The weights of products of the graph, by the parameter's name.

    Args:
        form: blocks of integers; weights whose inputs it does not divide are left out.
    """
    import numpy as np

    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    rounded: dict[str, BlockQuantized] = {}
    for node in nodes_of(graph, "MatMul"):
        weight = node.inputs[1]
        transpose = producer(weight, "Transpose")
        stored = weight if transpose is None else transpose.inputs[0]
        if stored is None or not is_weight(stored) or len(dims(stored) or ()) != 2:
            continue
        (name, *others) = parameters_of(stored)
        tensor = stored.const_value
        if others or tensor is None or name in rounded:
            continue
        values = np.asarray(tensor.numpy(), np.float32)
        rows = values.T if transpose is None else values  # [N, K]
        if rows.shape[1] % form.block_size == 0:
            rounded[name] = round_to_nearest(np.ascontiguousarray(rows), form.to_block_format(), layer=name)
    return rounded
