"""Whether every float32 weight in a file is the source's, number by number.

Runs see a row of an embedding only when its token is fed, and no weight whose change is small. A weight is told apart
by its name, or by the parameters that lie side by side in it; a constant that is made of none (a norm's one plus
weight, a table of angles) is left to the other checks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.result import Check
from jisu.exporter.sources.half_width import float32_array, is_half

if TYPE_CHECKING:
    pass

NAME = "float-weights"
# A constant of fewer elements is not looked for among the parameters when its name is not one of theirs.
_SMALL = 1 << 10
_BLOCK = 1 << 22  # elements compared at once

Floats = npt.NDArray[np.float32]


def check_float_weights(graph_file: Path, module: Any, *, read: Callable[[int], None] | None = None) -> Check:
    """Compare each float32 constant of a graph that is a parameter of the source, or several side by side.

    Args:
        graph_file: the ONNX file, its weights beside it.
        module: the source, its parameters in float32.
        read: called with the bytes of the weights that have been read, each time some have.
    """
    import onnx_ir as ir

    from jisu.exporter.graph.merge_weights import MADE_OF
    from jisu.exporter.graph.read_graph import let_go, read_graph
    from jisu.exporter.sources.experts import named_weights
    from jisu.exporter.tracing.recurrent_layers import onnx_weights

    parameters = _Arrays({**named_weights(module, remove_duplicate=False), **onnx_weights(module)})
    read = read or _nobody_asks
    known = _Parts(parameters, read)
    wrong, compared, unknown, first = 0, 0, 0, ""
    for name, value in read_graph(graph_file).graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
            continue
        stored: Floats = tensor.numpy()
        parts = [parameters.get(part) for part in value.metadata_props.get(MADE_OF, name).split()]
        result = _errors(name, stored, parts, known)
        read(stored.nbytes)
        let_go(tensor)
        if result is None:
            unknown += stored.size >= _SMALL
            continue
        compared += 1
        count, sentence = result
        wrong += count
        first = first or sentence
    detail = first
    if not wrong:
        also = f"; {unknown} constants are made of none of its parameters" if unknown else ""
        detail = f"{compared} weights are the source's, number by number{also}."
    return Check(name=NAME, passed=wrong == 0, value=wrong, limit=0, unit="numbers that differ", detail=detail)


def _nobody_asks(size: int) -> None:
    """For weights that stay in memory."""


class _Arrays(Mapping[str, Floats]):
    """The parameters that are computed with in float32; one of two bytes a number is widened when it is asked for."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._known: dict[str, Any] = {}
        for name, parameter in parameters.items():
            tensor = parameter.detach() if hasattr(parameter, "detach") else parameter
            if hasattr(tensor, "numpy") and not is_half(tensor):
                tensor = tensor.numpy()
            if str(tensor.dtype) == "float32" or is_half(tensor):
                self._known[name] = tensor

    def __getitem__(self, name: str) -> Floats:
        value: Any = self._known[name]
        array: Floats = value if isinstance(value, np.ndarray) else float32_array(value)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _errors(name: str, stored: Floats, parts: list[Floats | None], known: _Parts) -> tuple[int, str] | None:
    """How many numbers differ and a sentence about the first; None for a constant that is no parameter."""
    named = [part for part in parts if part is not None]
    if len(named) == len(parts) > 1:
        axis = 0 if named[0].ndim == 1 else 1
        merged = [part if part.ndim == 1 else part.T for part in named]
        if stored.shape == (*merged[0].shape[:axis], sum(part.shape[axis] for part in merged)):
            return _compared(name, stored, np.concatenate(merged, axis=axis))
    parameter = parts[0] if len(parts) == 1 else None
    if parameter is not None and parameter.size == stored.size:
        best: tuple[int, str] | None = None
        for form in _forms(parameter, stored.shape):
            result = _compared(name, stored, form)
            if best is None or result[0] < best[0]:
                best = result
            if best[0] == 0:
                break
        return best
    if stored.size < _SMALL or stored.ndim != 2:
        return None
    return known.compared(name, stored)


def _forms(parameter: Floats, shape: tuple[int, ...]) -> Iterator[Floats]:
    """The parameter, or it with its axes in another order, in a shape."""
    if parameter.ndim <= 3:
        for order in itertools.permutations(range(parameter.ndim)):
            if tuple(parameter.shape[axis] for axis in order) == shape:
                yield parameter.transpose(order)
    if parameter.ndim != len(shape) or sorted(parameter.shape) != sorted(shape):
        yield parameter.reshape(shape)
        if parameter.ndim == 2:
            yield parameter.T.reshape(shape)


def _compared(name: str, stored: Floats, expected: Floats) -> tuple[int, str]:
    count, sentence = 0, ""
    rows = max(1, _BLOCK // max(1, stored[:1].size)) if stored.ndim else 1
    if not stored.ndim:
        stored, expected = stored[None], expected.reshape(1)
    for start in range(0, len(stored), rows):
        ours, theirs = stored[start : start + rows], expected[start : start + rows]
        bad = ~(ours == theirs)  # a NaN is nobody's
        if bad.any():
            count += int(bad.sum())
            if not sentence:
                at = np.unravel_index(int(bad.argmax()), bad.shape)
                place = [int(at[0]) + start, *(int(index) for index in at[1:])]
                sentence = f"Element {place} of {name} is {ours[at]:.9g} where the source has {theirs[at]:.9g}"
    if count > 1:
        sentence += f", and {count - 1} numbers more differ"
    return count, f"{sentence}." if sentence else ""


@dataclass(frozen=True)
class _Matrix:
    """Where a matrix [rows, columns] of the source is: in which parameter, the how manieth, and whether turned."""

    label: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Floats]
    place: tuple[str, int, bool]

    def read(self) -> Floats:
        name, index, turned = self.place
        array = self.parameters[name]
        matrix: Floats = array.reshape(-1, *array.shape[-2:])[index]
        return matrix.T if turned else matrix


class _Parts:
    """The source's matrices by their first rows, to find those that lie side by side in a merged weight."""

    def __init__(self, parameters: Mapping[str, Floats], read: Callable[[int], None]) -> None:
        self._by_row: dict[bytes, list[_Matrix]] = {}
        for name, array in parameters.items():
            if array.ndim < 2 or not array.size:
                continue
            for index, matrix in enumerate(array.reshape(-1, *array.shape[-2:])):
                label = name if array.ndim == 2 else f"{name}[{index}]"
                for turned, form in ((False, matrix), (True, matrix.T)):
                    part = _Matrix(label, form.shape, parameters, (name, index, turned))
                    self._by_row.setdefault(_key(form[0]), []).append(part)
            read(array.nbytes)  # the first column of a matrix lies on all of its pages

    def compared(self, name: str, stored: Floats) -> tuple[int, str] | None:
        """Follow a weight [K, N] from part to part; None when it does not begin with one."""
        for rows in (stored.T, stored):
            result = self._followed(name, rows)
            if result is not None:
                return result
        return None

    def _followed(self, name: str, rows: Floats) -> tuple[int, str] | None:
        count, sentence, first = 0, "", 0
        while first < len(rows):
            parts = [
                part
                for part in self._by_row.get(_key(rows[first]), [])
                if part.shape[1] == rows.shape[1] and part.shape[0] <= len(rows) - first
            ]
            if not parts:
                if first == 0:
                    return None
                left = len(rows) - first
                sentence = (
                    sentence or f"Row {first} of {name} is no parameter's, and {left - 1} rows after it are none."
                )
                return count + left * rows.shape[1], sentence
            results = [
                (_compared(f"{part.label} in {name}", rows[first : first + len(matrix)], matrix), len(matrix))
                for part in parts
                for matrix in [part.read()]
            ]
            (bad, said), length = min(results, key=lambda result: result[0][0])
            count, sentence = count + bad, sentence or said
            first += length
        return count, sentence


def _key(row: Floats) -> bytes:
    return np.ascontiguousarray(row).tobytes()
