"""Runs torch's exporter, and says in a sentence what it cannot do."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
import warnings
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import onnxscript.optimizer
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.half_width import float32_shapes
from jisu.exporter.tracing.complex_numbers import complex_pairs
from jisu.exporter.tracing.decomposition import spare_decomposition
from jisu.exporter.tracing.explicit_masks import explicit_masks
from jisu.exporter.tracing.operators import OPSET
from jisu.exporter.tracing.parameters import float32_tensor
from jisu.exporter.tracing.recurrent_layers import recurrent_operators
from jisu.exporter.tracing.translations import translation_table

# The attribute of a root module that holds what it wraps.
TRACED = "traced"
# Folders of code that traces, which is never where a model's own mistake is.
_TOOLS = {"torch", "sympy", "onnxscript", "onnx_ir", "contextlib.py"}


def run_exporter(root: nn.Module, arguments: tuple[Any, ...], shapes: tuple[Any, ...]) -> ir.Model:
    """Trace a module, whose attribute `traced` is what it wraps, on example arguments and fold what is constant.

    Raises:
        InputError: torch cannot trace it.
    """
    # The first warns that torchvision, which no language model needs, is not installed; the others print the graph of a
    # model that cannot be traced, which the error below says in a sentence.
    talkers = [
        logging.getLogger(name)
        for name in (
            "torch.onnx._internal.exporter._registration",
            "torch.export",
            "torch.fx.experimental.symbolic_shapes",
        )
    ]
    levels = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(logging.CRITICAL)
    try:
        quiet = contextlib.redirect_stderr(io.StringIO())
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            quiet,
            recurrent_operators(root),
            explicit_masks(),
            float32_shapes(root) as halves,
        ):
            warnings.simplefilter("ignore")
            with complex_pairs():
                program = torch.export.export(root, arguments, dynamic_shapes=shapes, strict=False)
            spare_decomposition(program)
            exported = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                verbose=False,
                custom_translation_table=translation_table(),
            )
    except InputError:
        raise
    except Exception as error:  # torch reports a model that it cannot trace by any kind of exception
        name = _name_of(root.get_submodule(TRACED))
        if "Constraints violated" in _cause(error):
            raise InputError(
                f"The trace of {name} works for a few numbers of rows or tokens only",
                received=_cause(error).partition("!")[0],
                allowed="a forward for any number of rows (B) and tokens (T)",
                fix="Remove what depends on the example's sizes from the forward, such as len() of a tensor. A module "
                "that holds a limited number of tokens says so in an attribute max_positions; one that loops over its "
                "tokens needs an explicit state, and is then run token by token.",
            ) from error
        raise InputError(
            f"{name} cannot be traced",
            received=f"{_cause(error)}{place_of(error)}",
            allowed="a forward without data-dependent control flow",
            fix="Rewrite the part of the model that is named.",
        ) from error
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
    assert exported is not None
    model = exported.model
    for name, value in model.graph.initializers.items():
        if name in halves:
            value.const_value = float32_tensor(halves[name], name)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    onnxscript.optimizer.fold_constants(model, should_fold=_reads_no_parameter)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.ShapeInferencePass()(model)
    return model


def _name_of(traced: nn.Module) -> str:
    """The class of the traced module, or of the one that an adapter stands around."""
    return type(traced.get_submodule(getattr(traced, "weight_prefix", "").removesuffix("."))).__name__


def _cause(error: BaseException) -> str:
    """The first line of the error that the others were raised from: torch wraps it in advice on its own tools."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def place_of(error: BaseException) -> str:
    """Where in a model's own code an error was raised first, with the line itself; nothing where it was elsewhere."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for one in reversed(chain):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            file = Path(frame.filename)
            if frame.line and not _TOOLS & set(file.parts) and file.parent != Path(__file__).parent:
                return f", in {file.name}, line {frame.lineno}: {frame.line}"
    return ""


def _reads_no_parameter(node: ir.Node) -> bool | None:
    """Keep arithmetic on parameters in the graph: a folded weight would have lost its layer's name."""
    reads = any(value is not None and (value.name or "").startswith(f"{TRACED}.") for value in node.inputs)
    return False if reads else None
