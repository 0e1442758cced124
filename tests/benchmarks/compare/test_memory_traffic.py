from __future__ import annotations

import pytest

from jisu.benchmarks.compare.memory_traffic import state_bytes, weight_bytes
from jisu.exporter.contract.artifact import read_artifact

# The tiny Llama: 2 layers, 64 wide, 2 key/value heads of 16, MLP 128, 384 words, tied.
MATRICES = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128) + 384 * 64


def test_weights_are_all_matrices_in_their_own_format(tiny):
    assert weight_bytes(read_artifact(tiny.fp32), "ort-cpu") == 4 * MATRICES
    # A byte each, and a scale of four bytes for each block of 32 or 64.
    assert MATRICES * (1 + 4 / 64) <= weight_bytes(read_artifact(tiny.int8), "ort-cpu") <= MATRICES * (1 + 4 / 32)


def test_the_source_reads_its_parameters(tiny):
    artifact = read_artifact(tiny.int8)
    assert weight_bytes(artifact, "torch") == 4 * artifact.manifest.model.parameters


def test_state_grows_with_rows_and_tokens(tiny):
    # Key and value of two layers: 2 heads x 16 numbers x 4 bytes for each token.
    assert state_bytes(read_artifact(tiny.fp32), batch=3, length=10) == pytest.approx(3 * 10 * 2 * 2 * 2 * 16 * 4)
