"""A quantized folder's own integers -> the weights of the artifact, without quantizing anything anew.

What has integers with a scale for groups of columns is taken over bit for bit: narrow codes in the next wider ones that
the kernels read, long groups as several blocks with one scale, scattered groups side by side. Everything else gets the
closest form of 8 bits, and how far it is off is stated.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import gcd
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.kept_types import KeptType
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.sources.experts import expert_weights
from jisu.exporter.sources.half_width import float32_array

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
    from jisu.exporter.precision.precision import Precision
    from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight
    from jisu.exporter.sources.source import Source

_NARROW, _WIDE = 4, 8  # bits of a code that the kernels read
_CLOSEST_BLOCKS = (32, 16)


def keep_integers(
    source: Source, *, whole_bytes: bool = False, progress: ReportProgress | None = None
) -> QuantizedWeights:
    """Take over the integers of a folder's quantized weights.

    Args:
        source: loaded from the folder; compared with what is taken over.
        whole_bytes: widen the codes of embeddings to 8 bits, for targets that gather no smaller integers.
        progress: called with the matrices done and their number.

    Raises:
        InputError: the source has no quantized weights, or none of them is a matrix.
    """
    import numpy as np
    from torch import nn

    from jisu.calibration.weights.gguf_blocks import widen

    check_quantized(source)
    assert source.open_quantized is not None, "checked above"
    matrices = matrices_of(source.module)
    ends = [matrix for matrix in matrices if matrix.embedding]
    embeddings = [matrix for matrix in ends if isinstance(source.module.get_submodule(matrix.name), nn.Embedding)]
    gathered = {matrix.storage for matrix in embeddings}
    by_name: dict[str, BlockQuantized] = {}
    done: dict[Hashable, BlockQuantized] = {}
    kinds: dict[str, KeptType] = {}
    with source.open_quantized() as stored:
        experts = expert_weights(source.module)
        # Tied names share a weight, and the folder has it under one of them.
        by_storage = {matrix.storage: stored[matrix.parameter] for matrix in matrices if matrix.parameter in stored}
        for index, matrix in enumerate(matrices):
            if progress is not None:
                progress(index + 1, len(matrices))
            weight, whole = by_storage.get(matrix.storage), True
            if weight is None and matrix.routed is not None:
                weight, whole = stored.get(matrix.routed), False
            if weight is None:
                kinds.setdefault("plain floats", KeptType(stored="float32", exact=True)).weights += 1
                continue
            if matrix.storage not in done:
                own: Any = experts.get(matrix.parameter)
                own = source.module.get_parameter(matrix.parameter).detach() if own is None else own
                values = float32_array(own)
                if whole:
                    quantized = _kept(weight, values, layer=matrix.name, gathered=matrix.storage in gathered)
                else:  # the experts' matrices are stored as one
                    quantized = _closest(values, layer=matrix.name)
                if quantized is None:
                    kinds.setdefault(weight.form, KeptType(stored="float32", exact=True)).weights += 1
                    continue
                restored = quantized.dequantize()
                exact = bool(np.array_equal(restored, values))
                kept = kinds.setdefault(
                    f"{weight.form}{'' if exact else ' (closest)'}",
                    KeptType(stored=describe_form(quantized.format), exact=exact),
                )
                kept.add(matrix.parameter, values, restored)
                done[matrix.storage] = widen(quantized) if matrix.embedding and whole_bytes else quantized
            by_name[matrix.parameter] = done[matrix.storage]
    if not by_name:
        raise InputError(
            "No quantized weight of the checkpoint is in a format that can be kept",
            received=", ".join(f"{kept.weights} x {kind}" for kind, kept in kinds.items()),
            allowed="quantized linear layers or embeddings",
            fix="Leave --keep-quantization out.",
        )
    return QuantizedWeights(
        by_name=by_name, record={"algorithm": "kept", "types": {kind: kept.to_record() for kind, kept in kinds.items()}}
    )


def check_quantized(source: Source) -> None:
    """Raise InputError when a source has no integers that could be kept."""
    if source.open_quantized is None:
        raise InputError(
            "The checkpoint has no quantization that could be kept",
            received=str(source.provenance.get("name") or type(source.module).__name__),
            allowed="a GGUF file, or a folder whose weights are quantized",
            fix="Leave --keep-quantization out, or choose --precision int8 or int4.",
        )


def describe_second_rounding(source: Source, precision: Precision) -> str | None:
    """What it means to round weights that are rounded already; None where that costs little."""
    bits = [int(one) for one in source.provenance.get("quantization", {}).get("bits", {})]
    planned = precision.layers.bits if isinstance(precision.layers, WeightFormat) else _NARROW
    if source.open_quantized is None or not bits or planned > min(bits):
        return None
    method = source.provenance["quantization"].get("method") or "as its tensors say"
    return (
        f"The checkpoint's weights are rounded to {' and '.join(map(str, bits))} bits already ({method}): "
        f"{precision.name} rounds them a second time, and what that costs comes on top of the first rounding; "
        "--keep-quantization takes the stored integers as they are"
    )


def kept_format(weight: QuantizedWeight, features: int) -> tuple[BlockFormat | None, bool]:
    """(the format that a weight is kept in, known without reading it, whether it is exact).

    The format is taken to be symmetric; whether it is, only the zero points say. It is None where no block size fits.
    """
    from jisu.calibration.weights.formats import BlockFormat

    block = None
    if weight.code_bits is not None and weight.group_size is not None:
        block = _block_size(weight.group_size, features)
    if block is not None and weight.code_bits is not None:
        bits = _NARROW if weight.code_bits <= _NARROW else _WIDE
        return BlockFormat(bits=bits, block_size=block, symmetric=True), True
    return _closest_format(features), False


def describe_form(form: BlockFormat) -> str:
    """Bits, symmetry and blocks in words."""
    return f"{form.bits} bits, {'symmetric' if form.symmetric else 'asymmetric'}, blocks of {form.block_size}"


def _kept(
    weight: QuantizedWeight, values: npt.NDArray[np.float32], *, layer: str, gathered: bool = False
) -> BlockQuantized | None:
    """The weight in its own integers or in the closest ones; rows of an embedding keep their order."""
    form, exact = kept_format(weight, values.shape[1])
    if form is None:
        return None
    if exact and weight.integers is not None:
        quantized = _in_blocks(weight.integers(), form)
        if quantized is not None and not (gathered and quantized.columns is not None):
            return quantized
    return _closest(values, layer=layer)


def _closest(values: npt.NDArray[np.float32], *, layer: str) -> BlockQuantized | None:
    from jisu.calibration.weights.half_scales import round_scales
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    closest = _closest_format(values.shape[1])
    return None if closest is None else round_scales(round_to_nearest(values, closest, layer=layer))


def _closest_format(features: int) -> BlockFormat | None:
    from jisu.calibration.weights.formats import BlockFormat

    block = next((size for size in _CLOSEST_BLOCKS if features % size == 0), None)
    return None if block is None else BlockFormat(bits=_WIDE, block_size=block, symmetric=False)


def _block_size(group: int, features: int) -> int | None:
    """The longest block of which a group and a row have whole numbers."""
    from jisu.calibration.weights.formats import BLOCK_SIZES

    shared = features if group >= features else gcd(group, features)
    return next((size for size in sorted(BLOCK_SIZES, reverse=True) if shared % size == 0), None)


def _in_blocks(integers: Integers, form: BlockFormat) -> BlockQuantized | None:
    """The same numbers in blocks, the columns of a group side by side; None where groups are of unequal size."""
    from dataclasses import replace

    import numpy as np

    from jisu.calibration.weights.formats import BlockQuantized

    features = integers.codes.shape[1]
    codes, columns = integers.codes, None
    if integers.groups is not None:
        columns = np.argsort(integers.groups, kind="stable").astype(np.int64)
        if not np.array_equal(integers.groups[columns], np.arange(features) // integers.group_size):
            return None
        codes = codes[:, columns]
    of_block = np.arange(0, features, form.block_size) // integers.group_size
    zeros = integers.zero_points[:, of_block]
    # With one zero point for all, codes can be moved so that it is the middle, which need not be stored.
    shift = form.middle - int(zeros.flat[0]) if (zeros == zeros.flat[0]).all() else None
    if shift is not None and codes.min() + shift >= 0 and codes.max() + shift <= form.largest_code:
        codes = (codes.astype(np.int16) + shift).astype(np.uint8)
        zeros = np.full(zeros.shape, form.middle, np.uint8)
    else:
        form = replace(form, symmetric=False)
    return BlockQuantized(
        codes=codes,
        scales=np.ascontiguousarray(integers.scales[:, of_block]),
        zero_points=zeros,
        format=form,
        columns=columns,
    )
