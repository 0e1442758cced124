"""Whether the written files multiply with exactly the integers that calibration intended.

Quality figures never notice one block among millions. Every node that reads quantized weights is cut out of the file
and run alone by ONNX Runtime, the independent reader of the packed formats, with activations that are not rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.integer_difference import dequantized, first_difference
from jisu.exporter.gate.product_pieces import row_bounds
from jisu.exporter.gate.result import Check
from jisu.exporter.gate.single_node import Floats, NodeRunner, run_node, stored_constant
from jisu.exporter.graph.recurrent_weights import in_onnx_form, is_recurrent

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.calibration.w8a8.matmul import Int8Matmul, Quantized
    from jisu.calibration.weights.formats import BlockQuantized

NAME = "stored-weights"
# Largest difference of a product, as a share of the sum of its terms' magnitudes over `_SPAN` features. Sums of that
# many float32 numbers are off by 1e-6 at most; one 8-bit code that is off by one moves them by 1e-5, a zero point more.
LIMIT = 4e-6
_SPAN = 256
_UNSIGNED_MIDDLE = 128  # zero point of inputs whose scale is found at run time
_BIAS = 6  # input of MatMulIntegerToFloat
_ROWS = 4096  # of a weight, compared at once
# Operators that nobody but our own passes makes.
_OURS = ("MatMulNBits", "GatherBlockQuantized", "MatMulIntegerToFloat", "MatMulInteger")


def check_weights(graph_file: Path, intended: Mapping[str, Quantized], *, encoder: Path | None = None) -> Check:
    """Run every node that reads quantized weights alone and compare with the intended integers.

    Args:
        graph_file: the ONNX file, its weights beside it.
        intended: parameter name -> integers; channel scales are not part of what is stored.
        encoder: a second file, which may hold some of them as well or instead.
    """

    from jisu.exporter.graph.merge_weights import marked
    from jisu.exporter.graph.read_graph import let_go, read_graph

    files = [graph_file] if encoder is None else [graph_file, encoder]
    worst, where, seen = 0.0, "", set()
    named: str | None = None
    for node in (node for file in files for node in read_graph(file).graph):
        names = marked(node)
        if not names:
            if node.op_type in _OURS:
                return _check(float("inf"), f"{node.name or node.op_type} reads integers that nobody intended")
            continue
        unknown = [name for name in names if name not in intended]
        if unknown:
            return _check(float("inf"), f"the file holds integers for {unknown[0]}, which was not quantized")
        seen |= set(names)
        for error, place in _errors(node, [intended[name] for name in names], names):
            if not (error <= worst):
                worst, where = error, place
            if named is None and not (error <= LIMIT):
                named = _difference(node, [intended[name] for name in names], names)
        for value in node.inputs:
            if value is not None and value.const_value is not None:
                let_go(value.const_value)
    # Tied parameters are one weight under several names, and the file knows one of them.
    held = {id(intended[name]) for name in seen}
    missing = sorted(name for name, value in intended.items() if id(value) not in held)
    if missing:
        return _check(float("inf"), f"no node of the file reads the integers of {missing[0]}")
    return _check(worst, where, sentence=named)


def _check(value: float, where: str, *, sentence: str | None = None) -> Check:
    passed = bool(value <= LIMIT)
    what = "largest difference" if passed else "the file's weights are not the intended ones"
    detail = f"{what}: {value:.2g} of the terms' magnitude{f', {where}' if where else ''}; at most {LIMIT:g}."
    if sentence:
        detail = f"{sentence} ({detail})"
    return Check(name=NAME, passed=passed, value=value, limit=LIMIT, unit="relative", detail=detail)


def _difference(node: ir.Node, parts: Sequence[Quantized], names: Sequence[str]) -> str | None:
    """What is off in the integers that a node reads, in words; None where that cannot be told."""
    features = parts[0].codes.shape[1]
    try:
        if node.op_type == "MatMulNBits":
            run = NodeRunner(node, {0: np.zeros((1, features), np.float32)}, attributes={"accuracy_level": 1})
            actual = dequantized(lambda probe: run({0: probe}), features)
        elif node.op_type == "GatherBlockQuantized":
            rows = np.arange(len(parts[0].codes), dtype=np.int64)
            actual = run_node(node, {1: rows}, attributes={})
        elif node.op_type == "DequantizeLinear" and not any(map(is_recurrent, names)):
            axis = node.attributes["axis"].as_int()
            actual = run_node(node, {}, attributes={"axis": min(axis, 1)})
            actual = actual if actual.shape[1] == features else actual.T
        else:
            return None
        return first_difference(actual, parts, names)
    except Exception:  # noqa: BLE001 - looking for what is off must never hide that something is
        return None


def _errors(node: ir.Node, parts: Sequence[Quantized], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """(relative error, where) of each parameter, or of each piece of one."""
    from jisu.calibration.w8a8.matmul import Int8Matmul
    from jisu.calibration.weights.formats import BlockQuantized

    products = [part for part in parts if isinstance(part, Int8Matmul)]
    blocks = [part for part in parts if isinstance(part, BlockQuantized)]
    if any(map(is_recurrent, names)):
        yield from _recurrent_errors(node, products, names)
    elif products and blocks:
        yield float("inf"), f"{node.name or node.op_type} mixes formats"
    elif products:
        yield from _integer_errors(node, products, names)
    else:
        yield from _block_errors(node, blocks, names)


def _block_errors(node: ir.Node, parts: Sequence[BlockQuantized], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    if node.op_type == "MatMulNBits":
        yield from _product_errors(node, parts, names)
    elif node.op_type == "GatherBlockQuantized":
        yield from _row_errors(node, parts[0], names[0])
    else:
        # Blocks lie along the input features, a scale a row along the others: axis 0 of [K, N], axis 1 of [N, K].
        axis, in_blocks = node.attributes["axis"].as_int(), "block_size" in node.attributes
        actual = run_node(node, {}, attributes={"axis": min(axis, 1)})
        expected = [_stored_values(part) for part in parts]
        yield from _each(actual.T if (axis == 0) == in_blocks else actual, expected, names)


def _integer_errors(node: ir.Node, parts: Sequence[Int8Matmul], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Int8 matmuls are exact up to one last multiplication, so that rows can be compared as they are."""
    from dataclasses import replace

    fixed, bound = parts[0].format.activation, parts[0].format.lower_bound
    if node.op_type == "Add":
        stored = node.inputs[1]
        assert stored is not None
        meant = [(bound or 0) * part.dequantize().sum(axis=1, keepdims=True, dtype=np.float64) for part in parts]
        yield from _each(stored_constant(stored).numpy()[:, None], meant, names)
    elif node.op_type == "Mul":
        stored = node.inputs[1]
        assert stored is not None
        scales = stored_constant(stored).numpy()[:, None]
        yield from _each(scales, [part.scales[:, None] for part in parts], names)
    elif node.op_type == "DequantizeLinear":
        weights = [replace(part, channel_scales=None).dequantize() for part in parts]
        yield from _each(run_node(node, {}, attributes={}).T, weights, names)
    else:
        zero, scale = (_UNSIGNED_MIDDLE, 1.0) if fixed is None else (fixed.as_unsigned().zero_point, fixed.scale)
        if bound is not None:
            zero = 0
        codes = _integer_probe(parts[0].codes.shape[1], zero=zero)
        feeds: dict[int, npt.NDArray[Any]] = {0: codes}
        if node.inputs[_BIAS:]:
            feeds[_BIAS] = np.zeros(sum(len(part.codes) for part in parts), np.float32)
        actual = run_node(node, feeds, attributes={})
        sums = [part.codes.astype(np.int64) @ (codes.T.astype(np.int64) - zero) for part in parts]
        if node.op_type == "MatMulIntegerToFloat":
            scaled = [part.scales[:, None].astype(np.float64) * scale for part in parts]
            sums = [total * factor for total, factor in zip(sums, scaled, strict=True)]
        yield from _each(actual.T, sums, names)


def _recurrent_errors(node: ir.Node, parts: Sequence[Int8Matmul], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Codes times scales as they are stored, [D, rows, features], with those that were meant."""
    reader = node.outputs[0].consumers()[0]
    scales = node.inputs[1] if node.op_type == "DequantizeLinear" else reader.inputs[1]
    operator = reader if node.op_type == "DequantizeLinear" else reader.outputs[0].consumers()[0]
    assert node.inputs[0] is not None and scales is not None
    actual = stored_constant(node.inputs[0]).numpy().astype(np.float32) * stored_constant(scales).numpy()
    yield from _stacked_errors(actual, operator.op_type, parts, names)


def _stacked_errors(
    stored: npt.NDArray[Any], operator: str, parts: Sequence[Int8Matmul], names: Sequence[str]
) -> Iterator[tuple[float, str]]:
    expected = in_onnx_form(operator, [part.dequantize() for part in parts])
    if stored.shape != expected.shape:
        yield float("inf"), f"{names[0]} has the shape {stored.shape}"
        return
    for direction, name in enumerate(names):
        yield _compared(stored[direction], expected[direction].astype(np.float32), name)


def _integer_probe(features: int, *, zero: int = 0) -> npt.NDArray[np.uint8]:
    """Codes [rows, features] with one span of features in each row above the zero point, all others at it."""
    probe = np.full((-(-features // _SPAN), features), zero, np.uint8)
    generator = np.random.default_rng(0)
    for row, start in enumerate(range(0, features, _SPAN)):
        width = min(_SPAN, features - start)
        probe[row, start : start + width] = generator.integers(zero + 1, 256, width)
        probe[row, start] = 255
    return probe


def _product_errors(
    node: ir.Node, parts: Sequence[BlockQuantized], names: Sequence[str]
) -> Iterator[tuple[float, str]]:
    features = node.attributes["K"].as_int()
    # One row for each span of features, nothing but positive numbers in it: neither a code nor a zero point cancels.
    probe: Floats = np.zeros((-(-features // _SPAN), features), np.float32)
    generator = np.random.default_rng(0)
    for row, start in enumerate(range(0, features, _SPAN)):
        width = min(_SPAN, features - start)
        probe[row, start : start + width] = generator.uniform(0.5, 1.5, width)
    rows = node.attributes["N"].as_int()
    product = np.concatenate(
        [
            NodeRunner(node, {0: probe}, attributes={"accuracy_level": 1, "N": stop - start}, rows=(start, stop))(
                {0: probe}
            )
            for start, stop in row_bounds(rows, features)
        ],
        axis=1,
    )
    first = 0
    exact = probe.astype(np.float64)
    for name, part in zip(names, parts, strict=True):
        for start in range(0, len(part.codes), _ROWS):
            weight = _stored_values(part.rows(start, start + _ROWS)).T.astype(np.float64)
            actual = product[:, first : first + weight.shape[1]]
            first += weight.shape[1]
            terms = exact @ np.abs(weight)
            errors = np.abs(actual - exact @ weight) / np.maximum(terms, np.finfo(np.float32).tiny)
            yield _worst(errors, name, first_row=start)


def _row_errors(node: ir.Node, part: BlockQuantized, name: str) -> Iterator[tuple[float, str]]:
    for first, last in row_bounds(*part.codes.shape):
        run = NodeRunner(node, {1: np.zeros(1, np.int64)}, attributes={}, rows=(first, last))
        for start in range(first, last, _ROWS):
            stop = min(start + _ROWS, last)
            expected = _stored_values(part.rows(start, stop))
            yield _compared(
                run({1: np.arange(start - first, stop - first, dtype=np.int64)}), expected, f"{name} from row {start}"
            )


def _each(actual: Floats, truth: Sequence[npt.NDArray[Any]], names: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Compare values [rows, ...] with those of parameters that lie side by side."""
    first = 0
    for name, values in zip(names, truth, strict=True):
        yield _compared(actual[first : first + len(values)], values, name)
        first += len(values)


def _stored_values(part: BlockQuantized) -> Floats:
    """(code - zero point) * scale, whatever the channels were scaled by before, in the order of the codes' columns."""
    from dataclasses import replace

    return replace(part, channel_scales=None, columns=None, sums=0).dequantize()


def _compared(actual: Floats, expected: Floats, name: str) -> tuple[float, str]:
    if actual.shape != expected.shape:
        return float("inf"), f"{name} has the shape {actual.shape}"
    scale = np.maximum(np.abs(expected).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return _worst((np.abs(actual - expected) / scale).T, name)


def _worst(errors: npt.NDArray[Any], name: str, *, first_row: int = 0) -> tuple[float, str]:
    """The largest error of [probes, rows], a NaN counting as the largest, and its row."""
    errors = np.where(np.isnan(errors), np.inf, errors)
    row = int(errors.max(axis=0).argmax())
    return float(errors.max()), f"row {first_row + row} of {name}"
