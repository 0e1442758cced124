"""Tables of cos(p * f) and sin(p * f) -> the arithmetic that gives them, which the runtime does once on opening.

A table has a row for every position that a model holds: 2 MB of a small model's file, 67 MB where it holds 131072
tokens. The frequencies f are found in the tables themselves, and a table that they do not give again stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jisu.exporter.graph.match import emit, is_weight, new_constant
from jisu.exporter.graph.merge_weights import drop_unread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]

# Operator -> indices of cos and sin among its inputs.
_TABLES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (1, 2)}
# Smaller ones are not worth five nodes.
_SMALLEST_BYTES = 1 << 16
# Of the tables' amplitude. Two implementations of a cosine in float32 differ by 1.2e-7.
_TOLERANCE = 5e-7


def compute_rope_tables(graph: ir.Graph) -> int:
    """Replace each pair of tables that frequencies give again; returns how many pairs."""
    pairs: dict[tuple[int, int], list[ir.Node]] = {}
    for node in graph:
        where = _TABLES.get(node.op_type)
        if where is None or len(node.inputs) <= where[1]:
            continue
        cos, sin = (node.inputs[index] for index in where)
        if cos is not None and sin is not None and is_weight(cos) and is_weight(sin):
            pairs.setdefault((id(cos), id(sin)), []).append(node)
    return sum(_compute(graph, readers, number) for number, readers in enumerate(pairs.values()))


def _compute(graph: ir.Graph, readers: list[ir.Node], number: int) -> bool:
    import numpy as np

    where = _TABLES[readers[0].op_type]
    old = [value for index in where if (value := readers[0].inputs[index]) is not None]
    cos, sin = (value.const_value.numpy() for value in old if value.const_value is not None)
    if cos.dtype != np.float32 or cos.ndim != 2 or cos.shape != sin.shape or cos.nbytes < _SMALLEST_BYTES:
        return False
    amplitude = float(cos[0, 0])
    if not amplitude > 0:
        return False
    frequencies = find_frequencies(cos / np.float32(amplitude), sin / np.float32(amplitude))
    angles = np.arange(len(cos), dtype=np.float32)[:, None] * frequencies
    errors = [np.abs(amplitude * f(angles) - table).max() for f, table in ((np.cos, cos), (np.sin, sin))]
    if not max(errors) <= _TOLERANCE * amplitude:  # so that a NaN is never close
        return False
    made = _arithmetic(graph, f"rope_{number}", frequencies, positions=len(cos), amplitude=amplitude)
    for node in readers:
        for index, value in zip(_TABLES[node.op_type], made, strict=True):
            node.replace_input_with(index, value)
    drop_unread(graph, old)
    return True


def _arithmetic(
    graph: ir.Graph, name: str, frequencies: Floats, *, positions: int, amplitude: float
) -> tuple[ir.Value, ir.Value]:
    """Values of cos and sin [positions, D/2] at the start of the graph."""
    import numpy as np
    import onnx_ir as ir

    start = next(iter(graph))

    def known(what: str, array: Any) -> ir.Value:
        return new_constant(graph, f"{name}.{what}", array)

    def made(what: str, operator: str, *inputs: ir.Value) -> ir.Value:
        value = emit(start, operator, list(inputs))
        value.name, value.type = f"{name}.{what}", ir.TensorType(ir.DataType.FLOAT)
        return value

    limits = {"first": 0, "end": positions, "step": 1}
    bounds = [known(what, np.array(limit, np.float32)) for what, limit in limits.items()]
    column = made("positions", "Unsqueeze", made("range", "Range", *bounds), known("axis", np.array([1], np.int64)))
    angles = made("angles", "Mul", column, known("frequencies", frequencies[None, :]))
    outputs = [made(operator.lower(), operator, angles) for operator in ("Cos", "Sin")]
    if amplitude != 1:
        scale = known("amplitude", np.array(amplitude, np.float32))
        outputs = [made(f"{value.name}.scaled", "Mul", value, scale) for value in outputs]
    for value in outputs:
        value.shape = ir.Shape([positions, frequencies.size])
    return outputs[0], outputs[1]


def find_frequencies(cos: Floats, sin: Floats) -> Floats:
    """f [D/2] of tables [positions, D/2] of cos(p * f) and sin(p * f), 0 <= f <= pi; nonsense for other tables.

    The angle of position 1 is f itself. That of position 2**k is known up to whole turns, which the estimate so far
    tells apart, and divided by 2**k it is more exact; as a product with a power of two it was not even rounded.
    """
    import numpy as np

    position = 1
    frequencies: npt.NDArray[np.float64] = np.arctan2(sin[1].astype(np.float64), cos[1])
    while 2 * position < len(cos):
        position *= 2
        seen = np.arctan2(sin[position].astype(np.float64), cos[position])
        frequencies += np.angle(np.exp(1j * (seen - position * frequencies))) / position
    return frequencies.astype(np.float32)
