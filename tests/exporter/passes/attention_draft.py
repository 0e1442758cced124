"""Drafts what lies around an attention: token positions, rotary embedding, masks, and a cache that is written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from jisu.exporter.contract.signature import INPUT_IDS, PAST_LENGTH, TOKEN_TYPES
from tests.exporter.passes.draft import Draft

INT64 = ir.DataType.INT64
END = (1 << 63) - 1


class AttentionDraft(Draft):
    """A draft that begins with ``input_ids`` [B, T] and ``past_length`` [B] and numbers the new tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.input_ids = self.input(INPUT_IDS, "B", "T", dtype=INT64)
        self.past_length = self.input(PAST_LENGTH, "B", dtype=INT64)
        self.positions = self.numbered(self.past_length)

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        return self.op("Shape", value, dims=[1], dtype=INT64, start=axis, end=axis + 1)

    def counted(self, size: ir.Value, letter: str) -> ir.Value:
        """0, 1, 2 ... of this many numbers."""
        end = self.op("Squeeze", size, dims=[])
        return self.op("Range", self.weight(0), end, self.weight(1), dims=[letter], dtype=INT64)

    def numbered(self, start: ir.Value) -> ir.Value:
        """[B, T]: each row's start plus 0, 1, 2 ..."""
        rows = self.op("Unsqueeze", start, self.weight([1]), dims=["B", 1])
        return self.op("Add", rows, self.counted(self.size(self.input_ids, 1), "T"), dims=["B", "T"])

    def angle(self, function: str, size: int, *, positions: ir.Value | None = None, halves: str = "equal") -> ir.Value:
        """cos or sin of the rotary angles [B, T, size]."""
        positions = self.positions if positions is None else positions
        number = self.op("Cast", positions, dtype=ir.DataType.FLOAT, to=1)
        column = self.op("Unsqueeze", number, self.weight([2]), dims=["B", "T", 1])
        frequencies = self.weight(10000.0 ** (-np.arange(size // 2) / (size // 2)))
        half = self.op("Mul", column, frequencies, dims=["B", "T", size // 2])
        other = half if halves == "equal" else self.op("Mul", half, self.weight(np.float32(1.1)))
        both = self.op("Concat", half, other, dims=["B", "T", size], axis=-1)
        return self.op(function, both)

    def sliced(self, x: ir.Value, start: int, end: int, *, axis: int = -1) -> ir.Value:
        dims = [dim if isinstance(dim, int) else str(dim.value) for dim in x.shape or ()]
        dims[axis] = len(range(int(dims[axis]))[start:end])
        return self.op("Slice", x, *(self.weight([number]) for number in (start, end, axis, 1)), dims=dims)

    def rotated(
        self,
        x: ir.Value,
        size: int,
        *,
        cos: ir.Value | None = None,
        sin: ir.Value | None = None,
        middle: int | None = None,
        swapped: bool = False,
        negated: bool = True,
        axis: int = 1,
    ) -> ir.Value:
        """x * cos + rotate_half(x) * sin, for x [B, H, T, size]."""
        middle = size // 2 if middle is None else middle
        upper, lower = self.sliced(x, middle, END), self.sliced(x, 0, middle)
        if swapped:
            upper, lower = lower, upper
        halves = self.op("Concat", self.op("Neg" if negated else "Abs", upper), lower, dims=x.shape, axis=-1)
        wide: Callable[[ir.Value], ir.Value] = lambda angle: self.op(  # noqa: E731
            "Unsqueeze",
            angle,
            self.weight([axis]),
            dims=["B", 1, "T", size] if axis == 1 else ["B", "T", 1, size],
        )
        cos = self.angle("Cos", size) if cos is None else cos
        sin = self.angle("Sin", size) if sin is None else sin
        return self.op("Add", self.op("Mul", x, wide(cos)), self.op("Mul", halves, wide(sin)))

    def mask(self, past: ir.Value, rule: str = "causal", *, window: int = 0) -> ir.Value:
        """bool [B, 1, T, capacity] for a cache ``past``; see the rules below."""
        query = self.op("Unsqueeze", self.positions, self.weight([1, 3]), dims=["B", 1, "T", 1])
        key = self.counted(self.size(past, 2), "capacity")
        flag: dict[str, Any] = {"dims": ["B", 1, "T", "capacity"], "dtype": ir.DataType.BOOL}
        causal = self.op("LessOrEqual", key, query, **flag)
        if rule == "window":
            near = self.op("Sub", query, self.weight(window))
            return self.op("And", causal, self.op("Greater", key, near, **flag))
        if rule == "off by one":
            return self.op("Less", key, query, **flag)
        if rule == "sees the next":
            return self.op("LessOrEqual", key, self.op("Add", query, self.weight(1)), **flag)
        if rule == "bidirectional":
            return self.op("GreaterOrEqual", self.op("Abs", query), self.op("Sub", key, key), **flag)
        if rule == "sink":
            near = self.op("And", causal, self.op("Greater", key, self.op("Sub", query, self.weight(4)), **flag))
            return self.op("Or", near, self.op("Less", key, self.weight(1), **flag))
        if rule == "typed":
            types = self.input(TOKEN_TYPES, "B", "capacity", dtype=INT64)
            own = self.op("GatherND", types, self.op("Unsqueeze", self.positions, self.weight([2])), batch_dims=1)
            rows = self.op("Unsqueeze", own, self.weight([1, 3]), dims=["B", 1, "T", 1])
            columns = self.op("Unsqueeze", types, self.weight([1, 2]), dims=["B", 1, 1, "capacity"])
            alike = self.op(
                "And", self.op("Equal", rows, columns, **flag), self.op("Greater", rows, self.weight(0), **flag)
            )
            return self.op("Or", causal, alike)
        if rule == "prefix":
            return self.op("Or", causal, self.op("Less", key, self.weight(6), **flag))
        if rule == "by token":
            kept = self.op("Equal", self.input_ids, self.weight(7), dtype=ir.DataType.BOOL)
            rows = self.op("Unsqueeze", self.op("Not", kept), self.weight([1, 3]), dims=["B", 1, "T", 1])
            return self.op("And", causal, rows)
        assert rule == "causal"
        return causal
