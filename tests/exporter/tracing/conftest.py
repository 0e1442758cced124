"""Models traced once for all tests of the tracer: each trace takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import pytest

from jisu.exporter.tracing.causal_lm import CausalLM
from jisu.exporter.tracing.trace import trace
from tests.support.models import llama_config, random_model


@dataclass
class Traced:
    """A stock model, the adapter around it, and its graph."""

    stock: Any
    module: CausalLM
    graph: ir.Model


def traced(config: Any) -> Traced:
    stock = random_model(config).eval()
    module = CausalLM(stock)
    return Traced(stock, module, trace(module, module.state_spec()))


@pytest.fixture(scope="session")
def llama() -> Traced:
    """Four equal layers, of which two are traced."""
    return traced(llama_config(layers=4, max_position_embeddings=64))


@pytest.fixture(scope="session")
def llama_in_full() -> Traced:
    """The same model with every layer traced."""
    import jisu.exporter.tracing.trace as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "find_layers", lambda root: None)
        return traced(llama_config(layers=4, max_position_embeddings=64))
