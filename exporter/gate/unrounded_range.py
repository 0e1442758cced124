"""The whole range of a quantized model: its graph without the rounding of activations, its source with its weights.

Between these two nothing is rounded differently, so that positions, masks and windows are compared as strictly as in
fp32, whatever the integers are. That the integers are the intended ones is `jisu.exporter.gate.weights`' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.exam import Exam
from jisu.exporter.gate.product_pieces import cut_products
from jisu.exporter.precision.budget import FP32_BUDGET
from jisu.exporter.sources.experts import expert_name, find_experts, named_weights, stacked_names
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.large_projection import read_in_pieces

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.gate.positions import Range
    from jisu.exporter.gate.result import Check
    from jisu.exporter.sources.paged_weights import PagedWeights
    from jisu.exporter.sources.source import Source

# Of float32 weights that take the source's place for a while; a model with more of them is not asked.
MOST_BYTES = 8 << 30
# Operators that compute with rounded activations; none may be left.
_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "MatMulIntegerToFloat", "QMoE", "QAttention")
_FLOAT_ACTIVATIONS = 1  # accuracy_level of MatMulNBits


def check_unrounded_range(
    artifact: Artifact,
    source: Source,
    intended: Mapping[str, Quantized],
    exam: Exam,
    span: Range,
    *,
    open_bytes: int | None = None,
) -> Check | None:
    """`check_range` with the limit of fp32; None where the model has no integers, or this cannot be asked.

    Args:
        source: its module's weights are the integers' for as long as this takes.
        intended: integers by parameter name.
        exam: of the candidate.
        open_bytes: see `open_candidate`.
    """
    from jisu.exporter.gate.open_candidate import open_unrounded
    from jisu.exporter.gate.positions import check_range

    module = source.module
    parameters = named_weights(module, remove_duplicate=False)
    known = all(name in parameters and len(parameters[name]) == len(part.codes) for name, part in intended.items())
    floats = all(spec.dtype == "float32" for spec in artifact.manifest.signature.state)
    if not intended or not known or not floats or float_bytes(intended) > MOST_BYTES:
        return None
    graph = unrounded_graph(artifact.cpu_graph)
    if graph is None:
        return None
    exam.rest()
    cut_products(graph.graph)
    backend = open_unrounded(artifact, graph, open_bytes=open_bytes)
    try:
        strict = Exam(backend=backend, truth=exam.truth, prompts=exam.prompts, budget=FP32_BUDGET)
        with intended_weights(module, intended, paged=source.paged), read_in_pieces(module, source.paged):
            check = check_range(strict, span)
    finally:
        backend.close()
    return replace(check, detail=f"{check.detail} (Weights as they are stored, activations not rounded.)")


def unrounded_graph(file: Path) -> ir.Model | None:
    """The graph in a file with float activations, its weights still in the file's folder.

    None where an operator rounds that this module does not know.
    """
    import onnx_ir as ir

    from jisu.exporter.graph.read_graph import read_graph

    model = read_graph(file)
    for node in list(model.graph):
        if node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", _FLOAT_ACTIVATIONS)
        elif node.op_type == "DequantizeLinear" and (source := _quantized(node.inputs[0])) is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
        elif node.op_type in ("MatMulInteger", "MatMulIntegerToFloat"):
            _multiply_floats(model.graph, node)
    for node in reversed(list(model.graph)):
        if node.op_type in (*_ROUNDING, "DequantizeLinear") and not node.outputs[0].consumers():
            model.graph.remove(node, safe=True)
    return None if any(node.op_type in _ROUNDING for node in model.graph) else model


def _quantized(value: ir.Value | None) -> ir.Value | None:
    """What a value is the rounding of."""
    made = None if value is None else value.producer()
    return made.inputs[0] if made is not None and made.op_type == "QuantizeLinear" else None


def _multiply_floats(graph: ir.Graph, node: ir.Node) -> None:
    """Codes of x times codes of w -> what was rounded to x's codes, over its scale, times codes of w.

    With its scales, `MatMulIntegerToFloat` multiplies with the scale that it is given, which need not be x's.
    """
    import onnx_ir as ir

    source = _quantized(node.inputs[0])
    rounded = node.inputs[0].producer() if node.inputs[0] is not None else None
    if source is None or rounded is None:
        return
    output = node.outputs[0]
    divided = ir.node("Div", [source, rounded.inputs[1]])
    weight = ir.node("Cast", [node.inputs[1]], {"to": ir.DataType.FLOAT.value})
    steps = [divided, weight, ir.node("MatMul", [divided.outputs[0], weight.outputs[0]])]
    if node.op_type == "MatMulIntegerToFloat":
        for scale in node.inputs[2:4]:
            steps.append(ir.node("Mul", [steps[-1].outputs[0], scale]))
        for bias in node.inputs[6:]:
            steps.append(ir.node("Add", [steps[-1].outputs[0], bias]))
    last = steps[-1].outputs[0]
    name, shape = output.name, output.shape
    for number, step in enumerate(steps):
        step.outputs[0].name = f"{name}.unrounded.{number}"
    graph.insert_before(node, steps)
    last.type, last.shape = ir.TensorType(ir.DataType.FLOAT), shape
    output.name, last.name = f"{name}.rounded", name
    ir.convenience.replace_all_uses_with(output, last, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def float_bytes(intended: Mapping[str, Quantized]) -> int:
    """Of the float32 weights that integers stand for; tied ones count once."""
    return sum(4 * part.codes.size for part in {id(part): part for part in intended.values()}.values())


@contextmanager
def intended_weights(
    module: nn.Module, intended: Mapping[str, Quantized], *, paged: PagedWeights | None = None
) -> Iterator[None]:
    """Let a module compute with what its integers stand for, and give it its own weights back.

    Args:
        paged: the file that its weights lie in, which takes these as well; None where they are in memory.
    """
    import torch

    parameters = dict(module.named_parameters(remove_duplicate=False))
    kept: dict[int, tuple[Any, Any]] = {}
    try:
        with torch.no_grad():
            for name, make in _replaced(module, intended):
                parameter = parameters[name]
                if id(parameter) not in kept:
                    kept[id(parameter)] = parameter, parameter.data
                    pieces = make()
                    if paged is None:
                        parameter.data = torch.from_numpy(np.concatenate(list(pieces))).to(parameter.dtype)
                        continue
                    parameter.data = paged.store_pieces(tuple(parameter.shape), pieces)
                    paged.let_go()
        yield
    finally:
        for parameter, own in kept.values():
            parameter.data = own


def _replaced(
    module: nn.Module, intended: Mapping[str, Quantized]
) -> Iterator[tuple[str, Callable[[], Iterator[npt.NDArray[np.float32]]]]]:
    """(name of a parameter, what makes its values of integers, some rows at a time).

    Those of experts stand in one parameter together.
    """
    stacked: dict[str, dict[int, Quantized]] = {}
    names = {
        f"{expert_name(name, number)}.weight": (name, number)
        for path, experts in find_experts(module)
        for name in stacked_names(path, experts)
        for number in range(len(module.get_parameter(name)))
    }
    for name, part in intended.items():
        if name in names:
            stacked.setdefault(names[name][0], {})[names[name][1]] = part
        else:
            yield name, part.dequantize_pieces
    mixtures = {name: experts for path, experts in find_experts(module) for name in stacked_names(path, experts)}
    for name, parts in stacked.items():
        yield name, partial(_stacked, mixtures[name], name, parts)


def _stacked(experts: Any, name: str, parts: Mapping[int, Quantized]) -> Iterator[npt.NDArray[np.float32]]:
    """A parameter of three axes, expert by expert: what its integers stand for, or its own values."""
    own: npt.NDArray[np.float32] = float32_array(getattr(experts, name.rpartition(".")[2]))
    for number in range(len(own)):
        part = parts.get(number)
        if part is None:
            yield own[number : number + 1]
            continue
        matrix = part.dequantize()
        yield (matrix.T if experts.is_transposed else matrix)[None]
