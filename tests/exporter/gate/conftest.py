from __future__ import annotations

import pytest

from exporter.gate import gate_prompts
from exporter.reference import TorchReference
from tests.exporter.gate.numpy_llama import VOCAB, tiny_llama


@pytest.fixture(scope="session")
def llama():
    return tiny_llama()


@pytest.fixture(scope="session")
def reference(llama):
    return TorchReference(llama)


@pytest.fixture(scope="session")
def prompts():
    return gate_prompts(None, VOCAB, 512)
