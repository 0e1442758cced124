"""Refuses every construct that TensorRT misreads without a word, or rejects only when a plan is built.

Found by trying TensorRT 11 and TensorRT-RTX 1.7. It changes nothing: the passes before it are to leave nothing to find.
Each trap has a function of its own, which answers in words or with None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY, SOURCE, STATE_PREFIXES
from jisu.exporter.graph.match import is_weight

if TYPE_CHECKING:
    import onnx_ir as ir

_SHOWN = 5
# Places among the inputs of `Attention`-24.
_MASK, _PAST_KEY, _LENGTHS = 3, 4, 6
_READ = frozenset(
    {"scale", "softcap", "is_causal", "q_num_heads", "kv_num_heads", "qk_matmul_output_mode", "softmax_precision"}
)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_UNSIGNED = ("UINT4", "UINT8", "UINT2")
_DYNAMIC = ("B", CAPACITY, SOURCE)


def lint_tensorrt(graph: ir.Graph) -> int:
    """Look for every trap.

    Returns:
        0, since nothing is changed.

    Raises:
        InputError: names all that was found.
    """
    traps = [trap for node in graph for check in NODE_TRAPS if (trap := check(node)) is not None]
    traps += [trap for graph_check in GRAPH_TRAPS for trap in graph_check(graph)]
    if traps:
        more = f"; and {len(traps) - _SHOWN} more" if len(traps) > _SHOWN else ""
        raise InputError(
            "The graph has constructs that TensorRT misreads or refuses",
            received="; ".join(traps[:_SHOWN]) + more,
            allowed="standard operators as the recipes for tensorrt write them",
            fix="The model has a form that this recipe does not know; please report it, or choose --target ort-cuda.",
        )
    return 0


def foreign_domain(node: ir.Node) -> str | None:
    return f"{_named(node)} of the domain {node.domain} is no standard operator" if node.domain else None


def attention_lengths(node: ir.Node) -> str | None:
    if _is_attention(node) and _has_input(node, _LENGTHS):
        return f"{_named(node)} has nonpad_kv_seqlen, which is dropped silently"
    return None


def attention_attributes(node: ir.Node) -> str | None:
    """Windows among them: ``left_window_size`` is read over."""
    unknown = sorted(set(node.attributes) - _READ) if _is_attention(node) else []
    return f"{_named(node)} has {', '.join(unknown)}, which is ignored silently" if unknown else None


def attention_causal(node: ir.Node) -> str | None:
    if not _is_attention(node) or not node.attributes.get_int("is_causal", 0):
        return None
    if _has_input(node, _MASK):
        return f"{_named(node)} has is_causal beside a mask, which is refused"
    return f"{_named(node)} has is_causal, which is always aligned with the first key"


def attention_softcap(node: ir.Node) -> str | None:
    if _is_attention(node) and node.attributes.get_float("softcap", 0.0) != 0.0:
        return f"{_named(node)} has a softcap, which is refused"
    return None


def attention_past(node: ir.Node) -> str | None:
    if _is_attention(node) and (_has_input(node, _PAST_KEY) or _has_input(node, _PAST_KEY + 1)):
        return f"{_named(node)} has a past of its own, which is refused"
    return None


def attention_outputs(node: ir.Node) -> str | None:
    return f"{_named(node)} has {len(node.outputs)} outputs, of which one is taken" if _several(node) else None


def attention_mask_type(node: ir.Node) -> str | None:
    import onnx_ir as ir

    mask = node.inputs[_MASK] if _is_attention(node) and _has_input(node, _MASK) else None
    if mask is not None and mask.dtype != ir.DataType.BOOL:
        return f"{_named(node)} has a mask of {_type(mask)} instead of BOOL"
    return None


def attention_softmax_precision(node: ir.Node) -> str | None:
    if _is_attention(node) and "softmax_precision" in node.attributes:
        return f"{_named(node)} has softmax_precision, which is refused"
    return None


def zero_points(node: ir.Node) -> str | None:
    zero = node.inputs[2] if node.op_type in _QUANTIZERS and len(node.inputs) > 2 else None
    if zero is None:
        return None
    if zero.const_value is None or bool((zero.const_value.numpy() != 0).any()):
        return f"{_named(node)} has zero points other than 0, which are refused"
    return None


def unsigned_integers(node: ir.Node) -> str | None:
    if node.op_type not in _QUANTIZERS:
        return None
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    unsigned = codes is not None and codes.dtype is not None and codes.dtype.name in _UNSIGNED
    return f"{_named(node)} works on {_type(codes)}, signed integers are taken alone" if unsigned else None


def codes_elsewhere(node: ir.Node) -> str | None:
    """Integers of weights are read by nothing but `DequantizeLinear`: not by Gather, for one."""
    if node.op_type in _QUANTIZERS or node.domain:
        return None
    for value in node.inputs:
        if is_weight(value) and value is not None and value.dtype is not None and value.dtype.name in ("INT8", "INT4"):
            return f"{_named(node)} reads the integers {value.name} without DequantizeLinear"
    return None


def mixed_floats(node: ir.Node) -> str | None:
    """Everything is strongly typed: a product of fp16 and fp32 is a parse error."""
    if node.op_type == "Cast":
        return None
    kinds = {
        value.dtype.name
        for value in node.inputs
        if value is not None and value.dtype is not None and value.dtype.is_floating_point()
    }
    return f"{_named(node)} mixes {' and '.join(sorted(kinds))}" if len(kinds) > 1 else None


def cache_update(node: ir.Node) -> str | None:
    """A cache is written in place: it goes straight in as an input of the graph, and straight out."""
    if node.op_type != "TensorScatter":
        return None
    past = node.inputs[0]
    if past is None or not past.is_graph_input() or not node.outputs[0].is_graph_output():
        return f"{_named(node)} writes a cache that is not a direct input and output of the graph"
    if node.attributes.get_string("mode", "linear") != "linear":
        return f"{_named(node)} writes its cache in a circle"
    axis = node.attributes.get_int("axis", -2)
    return None if axis in (2, -2) else f"{_named(node)} appends along axis {axis} instead of 2"


def subgraphs(node: ir.Node) -> str | None:
    import onnx_ir as ir

    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    inside = any(item.type in kinds for item in node.attributes.values())
    return f"{_named(node)} has branches or a body, which this lint does not look into" if inside else None


def optional_inputs(graph: ir.Graph) -> list[str]:
    return [
        f"the input {value.name} has a default, which is read as a constant"
        for value in graph.inputs
        if value.name in graph.initializers
    ]


def dynamic_state(graph: ir.Graph) -> list[str]:
    """Rows, capacity and a source's length become numbers of the plan's profiles; what else varies could not."""
    pasts = tuple(past for past, _ in STATE_PREFIXES.values())
    problems = []
    for value in graph.inputs:
        sizes = [str(dim.value) for dim in value.shape or () if not isinstance(dim, int)]
        unknown = [name for name in sizes if name not in _DYNAMIC]
        if (value.name or "").startswith(pasts) and unknown:
            problems.append(f"the state {value.name} varies along {', '.join(unknown)}")
    return problems


def unread_inputs(graph: ir.Graph) -> list[str]:
    """TensorRT warns of an "Unused Input" and drops it; here it is an error, like every sign of another model."""
    return [
        f"the input {value.name} is not read"
        for value in graph.inputs
        if not value.uses() and not value.is_graph_output()
    ]


NODE_TRAPS: tuple[Callable[[ir.Node], str | None], ...] = (
    foreign_domain,
    attention_lengths,
    attention_attributes,
    attention_causal,
    attention_softcap,
    attention_past,
    attention_outputs,
    attention_mask_type,
    attention_softmax_precision,
    zero_points,
    unsigned_integers,
    codes_elsewhere,
    mixed_floats,
    cache_update,
    subgraphs,
)
GRAPH_TRAPS: tuple[Callable[[ir.Graph], list[str]], ...] = (optional_inputs, dynamic_state, unread_inputs)


def _is_attention(node: ir.Node) -> bool:
    return node.op_type == "Attention" and not node.domain


def _has_input(node: ir.Node, place: int) -> bool:
    return len(node.inputs) > place and node.inputs[place] is not None


def _several(node: ir.Node) -> bool:
    return _is_attention(node) and len(node.outputs) > 1


def _type(value: ir.Value | None) -> str:
    return "an unknown type" if value is None or value.dtype is None else value.dtype.name


def _named(node: ir.Node) -> str:
    return f"{node.op_type} {node.name or node.outputs[0].name}"
