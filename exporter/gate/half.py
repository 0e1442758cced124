"""Whether a half-precision artifact holds the source's weights, each rounded to the nearest, in a graph of exact types.

Quality figures notice neither a number that is off by one unit nor one row among thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.result import Check
from jisu.exporter.sources.half_width import float32_array

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch


WEIGHTS_NAME, TYPES_NAME, CPU_NAME = "stored-weights", "float-types", "cpu-graph"
# Constants of fewer elements are a model's own numbers folded together, such as one plus the weight of a norm.
_SMALL = 1 << 14
_READ_SCALES = frozenset({"DequantizeLinear", "MatMulNBits", "GatherBlockQuantized"})
# Operators whose inputs may be of several float types: they read one as nothing but a number, or convert.
_MAY_MIX = frozenset({"Cast"})
# Float32 of a parameter that is compared at once; transposed, so much stays in the cache.
_PIECE_BYTES = 4 << 20


def check_half_weights(graph_file: Path, module: Any, *, beside_integers: bool = False) -> Check:
    """Compare every half weight in the file with the source's parameter, bit for bit.

    Args:
        graph_file: the ONNX file, its weights beside it.
        module: the source, its parameters in float32.
        beside_integers: most weights are integers, so that there may be no half ones at all.
    """
    import onnx_ir as ir

    from jisu.exporter.graph.read_graph import read_graph
    from jisu.exporter.passes.store_half import ROUNDED_FROM
    from jisu.exporter.tracing.recurrent_layers import onnx_weights

    # Tied parameters are one under several names, and the file knows any of them.
    parameters = {**dict(module.named_parameters(remove_duplicate=False)), **onnx_weights(module)}
    wrong, where = 0, []
    checked = 0
    for name, value in read_graph(graph_file).graph.initializers.items():
        tensor = value.const_value
        if any(node.op_type in _READ_SCALES for node in value.consumers()):
            continue  # scales, which belong to the check of the integers
        if tensor is None or tensor.dtype not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            continue
        sources = value.metadata_props.get(ROUNDED_FROM, "").split()
        if not sources or not set(sources) <= set(parameters):
            if tensor.size >= _SMALL:
                wrong += tensor.size
                where.append(f"{name}, which is made of no parameter of the source")
            continue
        parts = [parameters[source].detach() for source in sources]
        count = _differences(tensor.numpy(), parts, tensor.dtype.numpy())
        checked += 1
        wrong += count
        if count:
            where.append(name)
    detail = f"{checked} weights are the source's, rounded to the nearest."
    if where:
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        detail = f"{wrong} numbers are not the source's, rounded to the nearest: in {where[0]}{more}."
    elif not checked:
        detail = "The file holds no weight in half precision."
    passed = wrong == 0 and (checked > 0 or beside_integers)
    name = f"{WEIGHTS_NAME}-half" if beside_integers else WEIGHTS_NAME
    return Check(name=name, passed=passed, value=wrong, limit=0, unit="numbers", detail=detail)


def check_half_graph(graph_file: Path, cpu_graph: Path) -> list[Check]:
    """Does every operator have one float type that its standard gives it, and do CPUs run this very graph?

    Args:
        graph_file: the ONNX file of a graph that computes in half.
        cpu_graph: what CPUs run of it; the same file where that is it.
    """
    import onnx_ir as ir

    from jisu.exporter.graph.cpu_graph import widen_half
    from jisu.exporter.graph.read_graph import read_graph

    model = read_graph(graph_file)
    mixed, foreign = mixed_types(model.graph), foreign_types(model)
    detail = "Every operator has one float type, and one that it takes."
    if mixed:
        detail = f"{len(mixed)} operators mix float types, first {mixed[0]}."
    elif foreign:
        detail = f"{len(foreign)} operators have a type that the standard does not give them, first {foreign[0]}."
    wrong = len(mixed) + len(foreign)
    checks = [Check(name=TYPES_NAME, passed=not wrong, value=wrong, limit=0, unit="operators", detail=detail)]
    if cpu_graph != graph_file:
        widen_half(model.graph)
        same = ir.to_proto(model) == ir.to_proto(read_graph(cpu_graph))
        detail = (
            "The graph that was run is the half one with casts." if same else "The graph that was run is another one."
        )
        checks.append(Check(name=CPU_NAME, passed=same, value=None, limit=None, unit="", detail=detail))
    return checks


def mixed_types(graph: ir.Graph) -> list[str]:
    """Operators that read floats of several types, in words; strict runtimes refuse each of them."""
    nodes = []
    for node in graph:
        kinds = {
            value.dtype.name
            for value in node.inputs
            if value is not None and value.dtype is not None and value.dtype.is_floating_point()
        }
        if len(kinds) > 1 and node.op_type not in _MAY_MIX:
            nodes.append(f"{node.op_type} {node.name or node.outputs[0].name} ({' and '.join(sorted(kinds))})")
    return nodes


def foreign_types(model: ir.Model) -> list[str]:
    """Standard operators that read a type which they do not take in the graph's opset, in words.

    CPUs run a copy with float32 in it, and would not notice; a strict runtime refuses the file.
    """
    from onnx.defs import SchemaError, get_schema

    opset = model.opset_imports[""]
    nodes = []
    for node in model.graph:
        if node.domain:
            continue
        try:
            formal = get_schema(node.op_type, opset).inputs
        except SchemaError:
            nodes.append(f"{node.op_type} {node.name} (no operator of opset {opset})")
            continue
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype is None:
                continue
            kind = f"tensor({value.dtype.name.lower()})"
            if kind not in formal[min(index, len(formal) - 1)].types:
                nodes.append(f"{node.op_type} {node.name or node.outputs[0].name} ({value.dtype.name})")
                break
    return nodes


def _differences(stored: npt.NDArray[Any], parts: Sequence[torch.Tensor], dtype: Any) -> int:
    """How many elements differ; products are stored with their weights transposed and side by side."""
    if not stored.ndim:
        stored, parts = stored[None], [part.reshape(1, *part.shape) for part in parts]
    if len(parts) == 1 and stored.shape == tuple(parts[0].shape):
        straight = sum(_wrong(stored[start:stop], rows, dtype) for start, stop, rows in _pieces(parts[0]))
        if not straight or stored.ndim != 2 or stored.shape[0] != stored.shape[1]:
            return straight
        return min(straight, sum(_wrong(stored[:, a:b], rows.T, dtype) for a, b, rows in _pieces(parts[0])))
    if any(part.ndim != 2 for part in parts) or stored.shape != (parts[0].shape[1], sum(len(part) for part in parts)):
        return int(stored.size)
    wrong, first = 0, 0
    for part in parts:
        columns = stored[:, first : first + len(part)]
        wrong += sum(_wrong(columns[:, start:stop], rows.T, dtype) for start, stop, rows in _pieces(part))
        first += len(part)
    return wrong


def _pieces(part: torch.Tensor) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """(first row, behind the last, float32 of them), some rows of a parameter at a time."""
    step = max(1, _PIECE_BYTES // (4 * max(1, part[:1].numel())))
    for start in range(0, len(part), step):
        yield start, min(start + step, len(part)), float32_array(part[start : start + step])


def _wrong(stored: npt.NDArray[Any], expected: npt.NDArray[np.float32], dtype: Any) -> int:
    return int((_bits(expected.astype(dtype)) != _bits(stored)).sum())


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return np.ascontiguousarray(array).view(np.uint16)
