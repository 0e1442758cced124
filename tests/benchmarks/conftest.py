"""The artifacts of one tiny model that the tests of comparisons read; none writes into them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.models import write_tiny_llama


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """``source``, and the folders ``fp32`` and ``int8`` that were exported from it."""
    from jisu.exporter import export

    folder: Path = tmp_path_factory.mktemp("tiny")
    source = write_tiny_llama(folder / "source")
    loose = {"max_kl": 5.0, "min_top1": 0.0, "max_perplexity_ratio": 100.0}
    export(source, folder / "fp32")
    export(source, folder / "int8", precision="int8", **loose)
    return SimpleNamespace(source=source, fp32=folder / "fp32", int8=folder / "int8")
