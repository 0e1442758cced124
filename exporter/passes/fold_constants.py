"""Computes what depends on nothing but constants, as long as it stays small: `1 + weight` of a norm, axes, shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def fold_constants(graph: ir.Graph) -> int:
    """Run onnxscript's constant folding; weights keep their transposes, which `transpose_weights` folds lazily."""
    import onnx_ir as ir
    import onnx_ir.passes.common as common_passes
    import onnxscript.optimizer

    before = len(graph)
    model = ir.Model(graph, ir_version=10)
    onnxscript.optimizer.fold_constants(model, should_fold=lambda node: False if node.op_type == "Transpose" else None)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.RemoveUnusedNodesPass()(model)
    return before - len(graph)
