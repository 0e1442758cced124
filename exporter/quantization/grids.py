"""Weights that lie on a grid already keep it, instead of being rounded onto another one: nothing is lost, nor to tune.

Whoever exports a GGUF file of 4 bits in int4 gets the file's own numbers. Where only some layers lie on a grid, the
others are calibrated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.precision.precision import GridFormat, WeightFormat
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.outline import is_outline

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.sources.source import Source


_WHOLE_BYTE = 8


def keep_grids(source: Source, choice: FormatChoice) -> FormatChoice:
    """The choice with their own grids for the layers that lie on one of few bits, where it has such formats."""
    layers = [matrix.name for matrix in matrices_of(source.module) if not matrix.embedding]
    from jisu.exporter.tracing.expert_layers import expert_layers

    with expert_layers(source.module):
        return _keep_grids(source, choice, layers)


def _keep_grids(source: Source, choice: FormatChoice, layers: list[str]) -> FormatChoice:
    formats = [choice.formats.get(name) for name in layers]
    known = [form for form in formats if isinstance(form, WeightFormat)]
    bits = min((form.bits for form in known if not form.symmetric), default=_WHOLE_BYTE)
    if is_outline(source) or not choice.calibrated or bits >= _WHOLE_BYTE:
        return choice
    forms: dict[str, GridFormat] = {}
    for name, form in zip(layers, formats, strict=True):
        grid = _grid(source, name, bits) if isinstance(form, WeightFormat) else None
        if grid is not None:
            forms[name] = GridFormat(bits=bits, block_size=grid.format.block_size, sums=grid.sums > 0)
    if not forms:
        return choice
    kept = replace(choice, formats={**choice.formats, **forms})
    return kept if kept.calibrated else replace(kept, algorithm="grid")


def take_grids(source: Source, choice: FormatChoice) -> dict[str, BlockQuantized]:
    """The codes of the layers that keep their grid, by parameter name."""
    by_name: dict[str, BlockQuantized] = {}
    for name, form in choice.formats.items():
        if isinstance(form, GridFormat):
            codes = _grid(source, name, form.bits)
            assert codes is not None, f"{name} has left its grid"
            by_name[f"{name}.weight"] = source.put_aside(codes)
    return by_name


def describe_grids(choice: FormatChoice, *, calibration: bool) -> str | None:
    """What was done instead of rounding, in a sentence without its full stop; None where no layer keeps a grid.

    Args:
        calibration: the user gave text to calibrate with.
    """
    forms = [form for form in choice.formats.values() if isinstance(form, GridFormat)]
    if not forms:
        return None
    kept = f"The weights of {len(forms)} layers lie on a grid of {forms[0].bits} bits already and keep it"
    unused = ", so that the calibration text is not used" if calibration and not choice.calibrated else ""
    return f"{kept}{unused}; --block-size {forms[0].block_size} would round them anew"


def grid_bytes(matrix: Matrix, form: GridFormat, *, bytes_per_scale: int) -> int:
    """Stored bytes of a matrix on its own grid."""
    stored = WeightFormat(bits=form.bits, block_size=form.block_size, symmetric=False).to_block_format()
    blocks = matrix.features // form.block_size
    sums = -(-blocks // form.block_size) * form.block_size if form.sums else 0
    return stored.stored_bytes(matrix.rows, matrix.features + sums, layer=matrix.name, scale_bytes=bytes_per_scale)


def _grid(source: Source, name: str, bits: int) -> BlockQuantized | None:
    from jisu.calibration.weights.grid import find_grid

    layer: Any = source.module.get_submodule(name)
    return find_grid(float32_array(layer.weight), bits=bits, layer=name)
