"""Bytes of what reads images or hears beside a decoder, from the shapes of an outline alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.feature_weights import describe_feature_format, feature_format, graphs_of_features
from jisu.exporter.quantization.weight_formats import scale_bytes

if TYPE_CHECKING:
    from jisu.exporter.quantization.prepared import Prepared
    from jisu.exporter.sources.source import Source

_FLOAT_BYTES, _HALF_BYTES = 4, 2


def feature_rows(source: Source, prepared: Prepared, *, target: str) -> list[tuple[str, int, int]]:
    """(what it is stored as, elements, bytes) of each weight that the decoder does not have.

    Args:
        source: an outline; of any other model, and of one that reads texts alone, there are none.
    """
    from torch import nn

    if source.whole is None:
        return []
    (file,) = graphs_of_features(source)
    form = feature_format(prepared.options.precision, file, prepared.options.keep)
    of_decoder = {id(parameter) for parameter in source.module.parameters()}
    linear = {id(one.weight) for one in source.whole.modules() if isinstance(one, nn.Linear)}
    rows = []
    for parameter in source.whole.parameters():
        if id(parameter) in of_decoder:
            continue
        elements = parameter.numel()
        label, size = describe_feature_format(None), _FLOAT_BYTES * elements
        if isinstance(form, WeightFormat):
            if id(parameter) in linear and parameter.shape[-1] % form.block_size == 0:
                label = describe_feature_format(form)
                size = elements + scale_bytes(target) * elements // form.block_size
        elif form is not None:
            label, size = describe_feature_format(form), _HALF_BYTES * elements
        rows.append((f"{label}, {file}", elements, size))
    return rows
