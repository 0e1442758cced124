"""Keeps torch from tracing a program twice where nothing in it has to be taken apart.

Before torch.onnx (2.13) translates a program it decomposes operators without a translation, which traces everything a
second time and is a third of the export. Most language models have only one kind that it would change, conversions of
dtype, and those are rewritten here in place. Programs that write into tensors, hold graphs inside the graph or use
other operators that need it are decomposed as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

_aten = torch.ops.aten
_CONVERSIONS = {_aten.to.dtype, _aten.to.dtype_layout, _aten.to.device}
_ASSERTIONS = {_aten._assert_tensor_metadata.default}
# Made of other operators, and translated as they are.
_TRANSLATED = {
    _aten.reshape.default,
    _aten.contiguous.default,
    _aten.expand_as.default,
    _aten.view_as.default,
    _aten.flatten.using_ints,
}


def spare_decomposition(program: torch.export.ExportedProgram) -> None:
    """Let ``program.run_decompositions`` return the program itself where that is the same, as torch.onnx will ask."""
    program.run_decompositions = functools.partial(_decompose, program)


def _decompose(
    program: torch.export.ExportedProgram, table: Mapping[OpOverload, Callable[..., Any]]
) -> torch.export.ExportedProgram:
    """Torch's own decomposition by the table of what has no translation, where something of it is used."""
    if any(_has_to_be_taken_apart(node, table) for node in program.graph.nodes):
        decomposed: torch.export.ExportedProgram = type(program).run_decompositions(program, dict(table))
        return decomposed
    for node in list(program.graph.nodes):
        if node.target in _ASSERTIONS:
            program.graph.erase_node(node)
    for node in list(program.graph.nodes):
        if node.target in _CONVERSIONS:
            _convert(node)
    return program


def _has_to_be_taken_apart(node: fx.Node, table: Mapping[OpOverload, Callable[..., Any]]) -> bool:
    if node.op == "get_attr":
        return isinstance(getattr(node.graph.owning_module, str(node.target), None), fx.GraphModule)
    target = node.target
    if node.op != "call_function" or not isinstance(target, OpOverload):
        return False
    if target in _CONVERSIONS | _ASSERTIONS | _TRANSLATED:
        return False
    # Of what is made of others, torch.onnx is never handed what may be a view of its input.
    view = any(argument.alias_info is not None for argument in target._schema.arguments)
    return target in table or target._schema.is_mutable or (view and _is_composite(target))


def _is_composite(target: OpOverload) -> bool:
    name = target.name()  # type: ignore[no-untyped-call]
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"))


def _convert(node: fx.Node) -> None:
    """A conversion without its freedom to return its input: a copy, or nothing where the dtype is the same."""
    source: Any = node.args[0]
    dtype = node.meta["val"].dtype
    used_by_output = any(user.op == "output" for user in node.users)
    if source.meta["val"].dtype == dtype and not used_by_output:
        node.replace_all_uses_with(source)
        node.graph.erase_node(node)
        return
    node.target = _aten._to_copy.default
    node.args, node.kwargs = (source,), {"dtype": dtype}
