"""A source -> its portable graph, by way of the adapter that its kind of module needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.module_kind import is_of_transformers

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from exporter.sources.source import Source


def trace_source(source: Source) -> ir.Model:
    """Trace a source once.

    Raises:
        InputError: the module cannot be traced.
    """
    from calibration.whole_sequences import has_state

    if source.task == "text-classification":
        from exporter.tracing.classifier import Classifier, trace_classifier

        classifier, facts = Classifier(source.module), source.model
        return trace_classifier(classifier, labels=len(facts.labels), max_positions=facts.max_positions)
    from exporter.tracing.trace import trace

    module: Any = traced_interface(source.module)
    if not has_state(module):
        return trace(module, [])
    # A user may write dims as a list, and dtypes as torch's.
    items = [
        (name, kind, tuple(dims), str(dtype).removeprefix("torch.")) for name, kind, dims, dtype in module.state_spec()
    ]
    return trace(module, items)


def traced_interface(module: nn.Module) -> nn.Module:
    """A source's module as ``forward(input_ids, past_length, state)`` with `state_spec()`, or ``forward(input_ids)``.

    Modules of transformers get an adapter; a module of the user's own is what it is.
    """
    if is_of_transformers(module):
        from exporter.tracing.causal_lm import CausalLM

        return CausalLM(module)
    return module
