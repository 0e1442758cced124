"""One tiny checkpoint, its artifact and its traced graph, made once for all tests of the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.models import write_tiny_llama


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of three layers, untied, with tokenizer and chat template."""
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "source", layers=3, tied=False, vocab=384)


@pytest.fixture(scope="session")
def tiny_artifact(tiny_source: Path) -> Any:
    from exporter.pipeline import export

    return export(tiny_source, tiny_source.parent / "artifact")


@pytest.fixture(scope="session")
def tiny_traced(tiny_source: Path) -> Any:
    """The portable graph of the tiny checkpoint before any pass; copy it before editing."""
    from exporter.sources import load_source
    from exporter.tracing.trace_source import trace_source

    return trace_source(load_source(tiny_source))
