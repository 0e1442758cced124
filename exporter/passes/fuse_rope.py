"""x * cos + rotate_half(x) * sin -> `RotaryEmbedding` with tables of cos and sin (Su et al. 2021, eq. 34; opset 23).

The tables are computed by running the model's own position arithmetic over every position, so that any scaling rule is
carried over exactly, and checked to depend on nothing but the position. Where a table would be too large, or positions
lie on three axes, the arithmetic stays in the graph and the operator reads its results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import IMAGE_SHIFTS, INPUT_IDS, PAST_LENGTH
from jisu.exporter.graph.match import (
    ancestors,
    constant,
    dims,
    emit,
    new_constant,
    nodes_of,
    producer,
    replace,
    used_once,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

_END = 1 << 62
# The runtime computes the last few elements of an array one by one and the others several at once: one unit of 1.2e-7.
_ROUNDING = 1e-6
# Bytes of one table: a million positions of heads of 128 are just below. There are two, cos and sin.
LARGEST_TABLE = 256 << 20
# Positions that are computed at a time, which bounds the memory for what lies between positions and angles.
_BLOCK = 1 << 16
# Layers choose from three axes for themselves, in this many steps at most.
_LAST_STEPS = 6


def count_places(graph: ir.Graph) -> int:
    """Concatenations of a negated half with the other half: what every rotation contains."""
    return sum(1 for node in graph if _rotated(node) is not None)


def fuse_rope(graph: ir.Graph, *, max_positions: int | None) -> int:
    """Replace each rotation of the "half" layout, partial ones included.

    Args:
        max_positions: rows of the tables; None for a model that states no limit, whose angles stay computed.

    Raises:
        InputError: the angles depend on the length of the call, which no table and no cached token can follow.
    """
    from jisu.exporter.graph.evaluate import find_positions

    positions = find_positions(graph, PAST_LENGTH, INPUT_IDS)
    if positions is None:
        return 0
    tables: dict[object, ir.Value | None] = {}
    count = 0
    for concat in nodes_of(graph, "Concat"):
        source = _rotated(concat)
        sum_ = _sum_of(concat, source) if source is not None else None
        if source is None or sum_ is None:
            continue
        add, cos, sin = sum_
        angles = []
        for angle in (cos, sin):
            key = _recipe(angle)
            if key not in tables:
                tables[key] = _table(graph, angle, positions, max_positions, number=len(tables))
            angles.append(tables[key])
        if angles[0] is None or angles[1] is None:
            continue
        size = (dims(source) or ())[-1]
        assert isinstance(size, int)
        whole, result = _partial(source, add.outputs[0], size)
        attributes = {} if whole is source else {"rotary_embedding_dim": size}
        anchor = result.producer()
        assert anchor is not None
        inputs = [whole, *angles]
        if angles[0].const_value is not None:
            inputs.append(positions)
        replace(result, emit(anchor, "RotaryEmbedding", inputs, attributes, like=result))
        count += 1
    return count


def _rotated(concat: ir.Node) -> ir.Value | None:
    """x when the node is the concatenation of -x[..., D/2:] and x[..., :D/2]."""
    if concat.op_type != "Concat" or len(concat.inputs) != 2:
        return None
    negated = producer(concat.inputs[0], "Neg")
    upper = _slice_last(negated.inputs[0]) if negated is not None else None
    lower = _slice_last(concat.inputs[1])
    if upper is None or lower is None or upper[0] is not lower[0]:
        return None
    size = (dims(upper[0]) or ("",))[-1]
    if not isinstance(size, int) or lower[1:] != (0, size // 2) or upper[1] != size // 2 or upper[2] < size:
        return None
    return upper[0]


def _slice_last(value: ir.Value | None) -> tuple[ir.Value, int, int] | None:
    """(x, start, end) when the value is x[..., start:end]."""
    node = producer(value, "Slice")
    if node is None or node.inputs[0] is None or len(node.inputs) < 4:
        return None
    numbers = [constant(item) for item in node.inputs[1:]]
    if any(number is None or number.size != 1 for number in numbers):
        return None
    start, end, axis, *step = (int(number.reshape(())) for number in numbers if number is not None)
    rank = len(dims(node.inputs[0]) or ())
    return (node.inputs[0], start, min(end, _END)) if axis in (-1, rank - 1) and step in ([], [1]) else None


def _sum_of(rotated: ir.Node, source: ir.Value) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """(add, cos, sin) when the rotated half is multiplied by sin and added to ``source`` multiplied by cos."""
    if not used_once(rotated.outputs[0]):
        return None
    times_sin = rotated.outputs[0].consumers()[0]
    if times_sin.op_type != "Mul" or not used_once(times_sin.outputs[0]):
        return None
    add = times_sin.outputs[0].consumers()[0]
    if add.op_type != "Add":
        return None
    times_cos = producer(next(item for item in add.inputs if item is not times_sin.outputs[0]), "Mul")
    if times_cos is None or sum(item is source for item in times_cos.inputs) != 1:
        return None
    angles = []
    for product, factor in ((times_cos, source), (times_sin, rotated.outputs[0])):
        angle = next(item for item in product.inputs if item is not factor)
        unsqueeze = producer(angle, "Unsqueeze")
        if unsqueeze is None or unsqueeze.inputs[0] is None or len(dims(unsqueeze.inputs[0]) or ()) != 3:
            return None
        axes = constant(unsqueeze.inputs[1])
        if axes is None or axes.tolist() not in ([1], [-3]):  # [B, 1, T, D], over heads that lie before the tokens
            return None
        angles.append(unsqueeze.inputs[0])
    return add, angles[0], angles[1]


def _recipe(value: ir.Value, depth: int = _LAST_STEPS) -> object:
    """What the last steps to a value are made of: layers that take the same steps for themselves share their result."""
    node = value.producer()
    if node is None or not depth:
        known = constant(value)
        return id(value) if known is None or known.size > 16 else (str(known.dtype), known.shape, known.tobytes())
    settings = tuple(sorted((name, repr(item.value)) for name, item in node.attributes.items()))
    parts = tuple(None if item is None else _recipe(item, depth - 1) for item in node.inputs)
    return node.domain, node.op_type, value.index(), settings, parts


def _partial(source: ir.Value, result: ir.Value, size: int) -> tuple[ir.Value, ir.Value]:
    """(x, y) of the whole head when only its first ``size`` elements are rotated and the rest is passed on as it is."""
    first = _slice_last(source)
    if first is None or first[1:] != (0, size) or not used_once(result):
        return source, result
    concat = result.consumers()[0]
    if concat.op_type != "Concat" or len(concat.inputs) != 2 or concat.inputs[0] is not result:
        return source, result
    rest = _slice_last(concat.inputs[1])
    if rest is None or rest[0] is not first[0] or rest[1] != size:
        return source, result
    return first[0], concat.outputs[0]


def _table(
    graph: ir.Graph, angle: ir.Value, positions: ir.Value, max_positions: int | None, *, number: int
) -> ir.Value | None:
    """``angle`` [B, T, D] as the operator reads it; None if it is no function of the positions with two equal halves.

    Returns:
        A constant [max_positions, D/2], or where that would be too large the computed angles [B, T, D/2].
    """
    import numpy as np

    from jisu.exporter.graph.evaluate import evaluate

    assert positions.name is not None
    if any(value is not None and value.name == IMAGE_SHIFTS for node in ancestors(angle) for value in node.inputs):
        return _on_three_axes(graph, angle, positions)

    def at(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """[len(ids), D]"""
        value: np.ndarray[Any, Any] = evaluate(
            angle, {positions.name or "": ids[None, :]}, opset=graph.opset_imports[""]
        )[0]
        return value

    size = (dims(angle) or ("",))[-1]
    tabled = max_positions is not None and isinstance(size, int) and max_positions * size // 2 * 4 <= LARGEST_TABLE
    count = max_positions if max_positions is not None and tabled else _BLOCK
    try:
        rows = np.concatenate(
            [_half(at(np.arange(start, min(start + _BLOCK, count)))) for start in range(0, count, _BLOCK)]
        )
    except (KeyError, _UnequalHalvesError):
        return None
    # The first tokens by themselves and some in disorder, never the last: angles that depend on the longest position
    # of a call (dynamic scaling) or on a token's place in it differ.
    for ids in (np.arange(min(4, count)), np.random.default_rng(0).integers(0, count // 2 + 1, 17)):
        if ids.max() < count and not np.allclose(_half(at(ids)), rows[ids], rtol=0, atol=_ROUNDING):
            raise InputError(
                "The rotary positions of the model depend on the length of the text",
                received="another angle for the same position in a longer text",
                allowed="angles that depend on nothing but a token's position",
                fix="Set max_position_embeddings in config.json to the length from which the angles change, mostly "
                "original_max_position_embeddings, or set another rope_type.",
            )
    if tabled:
        return new_constant(graph, f"rotary_table_{number}", np.ascontiguousarray(rows))
    return _first_half(graph, angle)


def _on_three_axes(graph: ir.Graph, angle: ir.Value, positions: ir.Value) -> ir.Value | None:
    """Angles that are computed from shifted positions, [B, T, D/2]; None where their halves differ."""
    import numpy as np

    from jisu.exporter.graph.evaluate import evaluate

    random = np.random.default_rng(0)
    ids = random.integers(64, 128, (2, 17))
    feeds = {positions.name or "": ids, IMAGE_SHIFTS: random.integers(-60, 60, (3, *ids.shape))}
    try:
        for rows in evaluate(angle, feeds, opset=graph.opset_imports[""]):
            _half(rows)
    except (KeyError, _UnequalHalvesError):
        return None
    return _first_half(graph, angle)


class _UnequalHalvesError(Exception):
    """The rotation pairs elements that have different angles."""


def _half(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[N, D] -> [N, D/2], which has to be both halves."""
    import numpy as np

    half = rows.shape[1] // 2
    if not np.allclose(rows[:, :half], rows[:, half:], rtol=0, atol=_ROUNDING):
        raise _UnequalHalvesError
    return rows[:, :half]


def _first_half(graph: ir.Graph, angle: ir.Value) -> ir.Value:
    """[B, T, D] -> [B, T, D/2] right behind what computes it."""
    import numpy as np
    import onnx_ir as ir

    whole, node = dims(angle), angle.producer()
    assert whole is not None and node is not None and isinstance(whole[-1], int)
    numbers = [np.array([number], dtype=np.int64) for number in (0, whole[-1] // 2, -1)]
    names = ["slice_0", f"slice_{whole[-1] // 2}", "axis_minus_1"]
    inputs = [angle, *(new_constant(graph, name, number) for name, number in zip(names, numbers, strict=True))]
    half = ir.Value(type=angle.type, shape=ir.Shape([*whole[:-1], whole[-1] // 2]))
    graph.insert_after(node, ir.Node("", "Slice", inputs, outputs=[half]))
    return half
