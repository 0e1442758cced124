"""Which layers get many bits and which get few, in the bytes that a choice has for them: by what rounding costs.

The choice that a precision makes by shapes alone says how large layers and embedding may be. All layers are rounded to
few bits, and where a file can hold them to the bits between as well; a backward pass over a few windows says how much
each moves the predictions by that (`calibration.expected_divergence`), and a knapsack spends the bytes: what then has
many bits is rounded to the nearest, the rest keeps its codes. Costs of rounding to the nearest would not do:
`down_proj` of SmolLM2-135M loses seven times as much by it as where each column makes up for others, gate and up
projections twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.expected_costs import (
    TOKENS,
    WINDOWS,
    NoGradientsError,
    Unit,
    can_observe,
    expected_costs,
    first_windows,
    observe_layers,
)
from jisu.exporter.quantization.knapsack import choose_options
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.outline import is_outline

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockQuantized, Floats
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

_SCALE_BYTES = 2
# Tokens that an embedding of fewer bits is judged on, and rows of it that are rounded at once.
_JUDGING, _PIECE = 128, 1 << 14
# Of what rounding it to the nearest costs, about what is left when it is rounded on text: 0.005 of 0.015 nats.
_LEFT_BY_TEXT = 1 / 3


def all_few(source: Source, choice: FormatChoice) -> FormatChoice | None:
    """The choice with few bits for every layer that may have them; None where bits are not spread anew.

    Args:
        choice: layers that `FormatChoice.spread` does not speak of stay as they are.
    """
    matrices = _spread_matrices(source, choice)
    if choice.spread is None or is_outline(source) or not _is_spread(source, choice, matrices):
        return None
    fewest = {name: fit_block_size(choice.spread[0], matrix.features) for name, matrix in matrices.items()}
    return replace(choice, formats={**choice.formats, **fewest})


def between(source: Source, choice: FormatChoice) -> dict[str, tuple[WeightFormat, ...]]:
    """The formats between few and many bits of each layer that may have them, by its name; empty where there are none.

    Args:
        source: may be an outline.
        choice: by shapes.
    """
    matrices = _spread_matrices(source, choice)
    if choice.spread is None or len(choice.spread) < 3 or not choice.calibrated:
        return {}
    if not _is_spread(source, choice, matrices):
        return {}
    forms = choice.spread[1:-1]
    fitted = {name: [fit_block_size(form, matrix.features) for form in forms] for name, matrix in matrices.items()}
    return {name: tuple(form for form in own if form is not None) for name, own in fitted.items() if None not in own}


def _is_spread(source: Source, choice: FormatChoice, matrices: Mapping[str, Matrix]) -> bool:
    """Whether text decides of these layers."""
    return can_observe(source) and len({choice.formats[name] for name in matrices}) > 1


def spread_bits(
    source: Source,
    choice: FormatChoice,
    data: CalibrationData,
    codes: Sequence[Mapping[str, BlockQuantized]],
) -> tuple[FormatChoice, dict[str, Any]]:
    """(the choice with many bits where they help most, how that was found out).

    Args:
        choice: by shapes; `all_few` has one for it.
        codes: of all layers in few bits, by parameter name, and in the bits `between`.
    """
    assert choice.spread is not None
    matrices = _spread_matrices(source, choice)
    try:
        units, table_cost = measure_units(source, choice, matrices, data, codes[: len(choice.spread) - 1])
    except NoGradientsError as reason:
        note = f"8 bits go to layers by their shapes: no gradients can be calculated ({reason})."
        return replace(choice, notes=(*choice.notes, note)), {}
    return respread(choice, units, matrices, _tables(source), table_cost=table_cost)


def _spread_matrices(source: Source, choice: FormatChoice) -> dict[str, Matrix]:
    return {
        matrix.name: matrix
        for matrix in matrices_of(source.module)
        if matrix.stacked and not (matrix.embedding or matrix.recurrent or matrix.routed)
        if isinstance(choice.formats.get(matrix.name), WeightFormat)
    }


def measure_units(
    source: Source,
    choice: FormatChoice,
    matrices: Mapping[str, Matrix],
    data: CalibrationData,
    codes: Sequence[Mapping[str, BlockQuantized]],
) -> tuple[list[Unit], float | None]:
    """(all layers that the calibration text reaches once, what the narrow format costs in the embedding).

    The latter is None where that cannot be told.

    Args:
        matrices: linear layers within the decoder's, by name.
        codes: by parameter name, of each of `FormatChoice.spread` but the last, which is rounded to the nearest.
    """
    assert choice.spread is not None
    output = _output_projection(source, choice)
    names = [*matrices, *([] if output is None else [output])]
    observed = observe_layers(source, names, first_windows(data))
    seen = [one for one in observed if output not in one.names]
    units = expected_costs(source, seen, codes, choice.spread[-1])
    entering = next((one.rows for one in observed if output is not None and one.names == (output,)), None)
    if output is None or entering is None or choice.narrow_embedding is None:
        return units, None
    return units, _table_cost(source, output, choice.narrow_embedding, entering)


def respread(
    choice: FormatChoice,
    units: Sequence[Unit],
    matrices: Mapping[str, Matrix],
    tables: Sequence[Matrix] = (),
    *,
    table_cost: float | None = None,
) -> tuple[FormatChoice, dict[str, Any]]:
    """The choice of least expected divergence in as many bytes, and a record; as it is where none is better.

    Args:
        matrices: linear layers within the decoder's, by name.
        tables: embedding and output projection, which may get their narrow format, so that layers have what it leaves.
        table_cost: in nats, of that; None for never.
    """
    assert choice.spread is not None
    options = [[fit_block_size(form, matrices[unit.names[0]].features) for form in choice.spread] for unit in units]
    pairs = [(unit, forms) for unit, forms in zip(units, options, strict=True) if None not in forms]
    if not pairs:
        return choice, {}
    sizes = [[sum(_bytes(matrices[name], form) for name in unit.names) for form in forms] for unit, forms in pairs]
    own = sum(_bytes(matrices[name], choice.formats[name]) for unit, _ in pairs for name in unit.names)
    # What all take anyway is no part of it: the program rounds what it adds up.
    more = [[size - min(row) for size in row] for row in sizes]
    before = sum(unit.costs[-1 if _bits(choice, unit) > choice.spread[0].bits else 0] for unit, _ in pairs)
    best: tuple[float, dict[str, WeightFormat | None]] | None = None
    finer = {} if table_cost is None else _finer_tables(choice, tables)
    for formats, cost in (({}, 0.0), *([(finer, table_cost or 0.0)] if finer else [])):
        allowed = own + _saved(choice, tables, formats)
        picks = choose_options([unit.costs for unit, _ in pairs], more, limit=allowed - sum(map(min, sizes)))
        if picks is None:
            continue
        expected = cost + sum(unit.costs[pick] for (unit, _), pick in zip(pairs, picks, strict=True))
        if best is None or expected < best[0]:
            chosen = {
                name: forms[pick] for (unit, forms), pick in zip(pairs, picks, strict=True) for name in unit.names
            }
            best = expected, {**chosen, **formats}
    if best is None or best[0] >= before:
        return choice, {}
    record = {"windows": WINDOWS, "tokens": TOKENS, "expected_kl": best[0], "expected_kl_by_shape": before}
    return replace(choice, formats={**choice.formats, **best[1]}), record


def _saved(choice: FormatChoice, tables: Sequence[Matrix], formats: Mapping[str, WeightFormat | None]) -> float:
    """Bytes that tables leave with other formats than their own; a tied one counts once."""
    owners = {table.storage: table for table in tables if table.name in formats}
    return sum(
        _bytes(table, choice.formats[table.name]) - _bytes(table, formats[table.name]) for table in owners.values()
    )


def _tables(source: Source) -> list[Matrix]:
    return [matrix for matrix in matrices_of(source.module) if matrix.embedding]


def _output_projection(source: Source, choice: FormatChoice) -> str | None:
    """The linear layer that gives the logits, where it may get the bits between few and many."""
    import torch

    for name in _finer_tables(choice, _tables(source)):
        if isinstance(source.module.get_submodule(name), torch.nn.Linear):
            return name
    return None


def _table_cost(source: Source, name: str, form: WeightFormat, entering: Floats) -> float:
    """What an output projection in these bits costs, in nats of mean KL divergence.

    Args:
        entering: some of what it reads, float32 [S, K].
    """
    import torch

    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    layer: Any = source.module.get_submodule(name)
    rows = torch.from_numpy(entering[:: max(1, len(entering) // _JUDGING)])
    fitted = fit_block_size(form, rows.shape[1])
    assert fitted is not None
    logits: list[list[torch.Tensor]] = [[], []]
    for start in range(0, len(layer.weight), _PIECE):
        own = float32_array(layer.weight[start : start + _PIECE])
        rounded = round_to_nearest(own, fitted.to_block_format(), layer=name).dequantize()
        for kept, weight in zip(logits, (own, rounded), strict=True):
            kept.append(rows @ torch.from_numpy(weight).T)
        source.count_read(own.nbytes)
    expected, actual = (torch.cat(pieces, dim=1).log_softmax(dim=1) for pieces in logits)
    divergence = (expected.exp() * (expected - actual)).sum(dim=1).double().mean()
    return _LEFT_BY_TEXT * float(divergence)


def _finer_tables(choice: FormatChoice, tables: Sequence[Matrix]) -> dict[str, WeightFormat]:
    """What embedding and output projection have instead of many bits, by name."""
    if choice.narrow_embedding is None:
        return {}
    finer: dict[str, WeightFormat] = {}
    for table in tables:
        form, fitted = choice.formats.get(table.name), fit_block_size(choice.narrow_embedding, table.features)
        if isinstance(form, WeightFormat) and fitted is not None and fitted.bits < form.bits:
            finer[table.name] = fitted
    return finer


def _bits(choice: FormatChoice, unit: Unit) -> int:
    return min(form.bits for name in unit.names if isinstance(form := choice.formats[name], WeightFormat))


def _bytes(matrix: Matrix, form: Any) -> float:
    block_format = form.to_block_format()
    return float(block_format.stored_bytes(matrix.rows, matrix.features, layer=matrix.name, scale_bytes=_SCALE_BYTES))
