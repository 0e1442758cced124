"""A source -> its portable graph, by way of the adapter that its kind of module needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.sources.source import Source


def trace_source(source: Source) -> ir.Model:
    """Trace a source once.

    Raises:
        InputError: the module cannot be traced.
    """
    from exporter.tracing.causal_lm import CausalLM
    from exporter.tracing.trace import trace

    module = CausalLM(source.module)  # type: ignore[arg-type]
    return trace(module, module.state_spec())
