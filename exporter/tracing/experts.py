"""Mixtures of experts: each expert multiplies the tokens that were routed to it, and no others.

Tokens are sorted by expert, cut where the expert changes, multiplied part by part and joined again. An expert without
tokens multiplies an empty matrix, so that its weights are not read: decoding one token costs the chosen experts only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from jisu.exporter.sources.experts import expert_name
from jisu.exporter.tracing.parameters import float32_tensor

# While a model is traced, one operator of this domain stands for the products of all experts.
DOMAIN = "jisu.tracing"
GROUPED_MATMUL = "GroupedMatMul"


def routed_experts(experts: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """transformers' experts function.

    Args:
        experts: has ``gate_up_proj`` (or ``up_proj``) and ``down_proj`` [E, out, in], or [E, in, out] when it says so.
        hidden_states: [N, C].
        top_k_index: int64 [N, k], the experts of each token.
        top_k_weights: [N, k].

    Returns:
        [N, C]
    """
    module: Any = experts
    tokens, chosen = top_k_index.shape
    expert = top_k_index.reshape(-1)
    by_expert, order = torch.sort(expert)
    # A number that no expert has, which routers give to slots that they leave empty, multiplies nothing.
    count = module.down_proj.shape[0]
    counts = (expert[:, None] == torch.arange(count, device=expert.device)).to(torch.int64).sum(0)
    biases: dict[str, Tensor | None] = {"up": None, "down": None}
    up = module.gate_up_proj if module.has_gate else module.up_proj
    if module.has_bias:
        biases["up"] = (module.gate_up_proj_bias if module.has_gate else module.up_proj_bias)[by_expert]
        biases["down"] = module.down_proj_bias[by_expert]
    hidden = hidden_states[torch.div(order, chosen, rounding_mode="floor")]
    kind = "gate_up_proj" if module.has_gate else "up_proj"
    hidden = _product(hidden, up, counts, biases["up"], layers=_layers(module, kind), transposed=module.is_transposed)
    hidden = module._apply_gate(hidden) if module.has_gate else module.act_fn(hidden)
    layers = _layers(module, "down_proj")
    hidden = _product(hidden, module.down_proj, counts, biases["down"], layers=layers, transposed=module.is_transposed)
    if getattr(module, "has_post_expert_norm", False):
        hidden = module.post_expert_norm(hidden)
    weighted = hidden[torch.argsort(order)].reshape(tokens, chosen, -1) * top_k_weights[:, :, None]
    return weighted.sum(1).to(hidden_states.dtype)


def _layers(experts: Any, kind: str) -> list[nn.Module]:
    """The experts' matrices as layers of their own, where they are for now; see `exporter.tracing.expert_layers`."""
    return [child.get_submodule(kind) for name, child in experts.named_children() if name.isdecimal()]


def _product(
    hidden: Tensor,
    weight: Tensor,
    counts: Tensor,
    bias: Tensor | None,
    *,
    layers: Sequence[nn.Module],
    transposed: bool,
) -> Tensor:
    """[N, in], sorted by expert, times each row's own expert's matrix -> [N, out]; counts: int64 [E], rows of each."""
    size = weight.shape[2] if transposed else weight.shape[1]
    if torch.compiler.is_exporting():
        product = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{GROUPED_MATMUL}",
            (hidden, weight, counts),
            {"transposed": int(transposed)},
            dtype=hidden.dtype,
            shape=(hidden.shape[0], size),
            version=1,
        )
    else:
        parts = torch.split(hidden, counts.tolist())
        if layers:
            products = [layer(part) for part, layer in zip(parts, layers, strict=True)]
        else:
            products = [part @ (one if transposed else one.T) for part, one in zip(parts, weight, strict=True)]
        product = torch.cat(products)
    return product if bias is None else product + bias


def expand_experts(graph: ir.Graph, tensor_of: Callable[[str], Tensor]) -> int:
    """Replace each `GroupedMatMul` by standard operators; returns how many there were.

    Args:
        graph: a traced graph.
        tensor_of: name of a parameter -> the parameter; each expert's matrix is a view of it.
    """
    grouped = [node for node in graph if node.domain == DOMAIN and node.op_type == GROUPED_MATMUL]
    for node in grouped:
        hidden, weight, counts = node.inputs
        assert hidden is not None and weight is not None and weight.name is not None
        experts = tensor_of(weight.name)
        split = ir.node("Split", [hidden, counts], {"axis": 0}, num_outputs=len(experts))
        new = [split]
        parts = []
        for number, matrix in enumerate(experts):
            value = _initializer(graph, f"{expert_name(weight.name, number)}.weight", matrix)
            if not node.attributes.get_int("transposed", 0):
                transpose = ir.node("Transpose", [value], {"perm": [1, 0]})
                transpose.outputs[0].type = hidden.type
                transpose.outputs[0].shape = ir.Shape([matrix.shape[1], matrix.shape[0]])
                new.append(transpose)
                value = transpose.outputs[0]
            split.outputs[number].type = hidden.type
            product = ir.node("MatMul", [split.outputs[number], value])
            product.outputs[0].type = hidden.type
            new.append(product)
            parts.append(product.outputs[0])
        joined = ir.node("Concat", parts, {"axis": 0})
        joined.outputs[0].type, joined.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
        name = node.outputs[0].name
        graph.insert_before(node, [*new, joined])
        node.outputs[0].replace_all_uses_with(joined.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
        joined.outputs[0].name = name
        if not weight.uses():
            graph.initializers.pop(weight.name)
    graph.opset_imports.pop(DOMAIN, None)
    return len(grouped)


def _initializer(graph: ir.Graph, name: str, matrix: Tensor) -> ir.Value:
    if name not in graph.initializers:
        tensor = float32_tensor(matrix.detach(), name)
        shape = ir.Shape(list(matrix.shape))
        graph.initializers[name] = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor
        )
    return graph.initializers[name]
