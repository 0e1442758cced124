"""An ONNX graph that picks the largest logits where they lie, written field by field: running needs no onnx package.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto).
"""

from __future__ import annotations

INPUT, VALUES, IDS, SUM = "logits", "values", "ids", "sum"
_FLOAT, _INT64, _FLOAT16, _BFLOAT16 = 1, 7, 10, 16
_TYPES = {"float32": _FLOAT, "float16": _FLOAT16, "bfloat16": _BFLOAT16}
_IR_VERSION, _OPSET = 10, 21
_INT_ATTRIBUTE = 2


def top_graph(dtype: str, *, count: int) -> bytes:
    """A serialized model: ``logits`` [B, 1, V] -> ``values`` float32 and ``ids`` int64 [B, 1, count], the largest first
    and the lower id among equals; ``sum`` float32 [B] of all logits, which tells whether any is not finite.
    """
    nodes = [
        _node("Cast", [INPUT], ["wide"], to=_FLOAT),
        _node("TopK", ["wide", "count"], [VALUES, IDS], axis=-1, largest=1, sorted=1),
        _node("ReduceSum", ["wide", "axes"], [SUM], keepdims=0),
    ]
    constants = [_int64s("count", [count]), _int64s("axes", [1, 2])]
    inputs = [_value(INPUT, _TYPES[dtype], ["B", 1, "V"])]
    outputs = [
        _value(VALUES, _FLOAT, ["B", 1, count]),
        _value(IDS, _INT64, ["B", 1, count]),
        _value(SUM, _FLOAT, ["B"]),
    ]
    graph = b"".join(
        [
            *(_bytes(1, node) for node in nodes),
            _bytes(2, b"top"),
            *(_bytes(5, constant) for constant in constants),
            *(_bytes(11, value) for value in inputs),
            *(_bytes(12, value) for value in outputs),
        ]
    )
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _node(op_type: str, inputs: list[str], outputs: list[str], **attributes: int) -> bytes:
    written = b"".join(_bytes(1, name.encode()) for name in inputs)
    written += b"".join(_bytes(2, name.encode()) for name in outputs)
    written += _bytes(4, op_type.encode())
    for name, value in attributes.items():
        written += _bytes(5, _bytes(1, name.encode()) + _number(3, value) + _number(20, _INT_ATTRIBUTE))
    return written


def _int64s(name: str, values: list[int]) -> bytes:
    data = b"".join(_varint(value) for value in values)
    return _number(1, len(values)) + _number(2, _INT64) + _bytes(7, data) + _bytes(8, name.encode())


def _value(name: str, kind: int, dims: list[int | str]) -> bytes:
    shape = b"".join(_bytes(1, _number(1, dim) if isinstance(dim, int) else _bytes(2, dim.encode())) for dim in dims)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers in two's complement, as int64 is written
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
