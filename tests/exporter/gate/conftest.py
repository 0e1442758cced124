from __future__ import annotations

import pytest
import torch

from jisu.exporter.gate import gate_prompts
from jisu.exporter.gate.reference import TorchReference
from tests.exporter.gate.numpy_llama import VOCAB, tiny_llama


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    # Matrices this small only suffer when torch's and numpy's threads fight for the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def llama():
    return tiny_llama()


@pytest.fixture(scope="session")
def reference(llama):
    return TorchReference(llama)


@pytest.fixture(scope="session")
def prompts():
    return gate_prompts(None, VOCAB, 512)


@pytest.fixture(scope="session")
def short_prompts():
    """For what does not depend on lengths: everything is the same, with 48 tokens instead of 300."""
    return gate_prompts(None, VOCAB, 48)
