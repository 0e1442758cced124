from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.backend import TopBackend
from jisu.runtimes import load
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.backends.ort_cuda.top import DeviceTop
from jisu.runtimes.engine import Engine
from tests.runtimes.pretended_gpu import Value, pretended_onnxruntime
from tests.runtimes.tiny_models import write_artifact

PROMPTS = [[3, 7, 1, 9], [8, 2]]


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "a", "ort-cpu")


def test_all_but_the_largest_are_forbidden_and_the_last_call_leaves_nothing():
    top = DeviceTop(pretended_onnxruntime(), dtype="float32", count=2, vocab_size=4)
    low = -np.inf
    assert top.of(Value(np.array([[[1, 3, 2, 0]]], np.float32))).tolist() == [[[low, 3, 2, low]]]
    assert top.of(Value(np.array([[[9, 3, 2, 8]]], np.float32))).tolist() == [[[9, low, low, 8]]]
    assert top.of(Value(np.array([[[9, 3, 2, 8]]] * 3, np.float32))).shape == (3, 1, 4)
    assert top.of(Value(np.array([[[9, np.nan, 2, 8]]], np.float32))) is None


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_k": 5, "seed": 3}, {"temperature": 0.8, "seed": 3}])
def test_the_same_tokens_as_with_all_logits(artifact, options, monkeypatch):
    backend = OrtCudaBackend(pretended_onnxruntime(), artifact)
    assert isinstance(backend, TopBackend)
    fetched = []
    monkeypatch.setattr(Value, "numpy", lambda self: fetched.append(self.array.size) or self.array.copy())
    expected = {"max_new_tokens": 12, "ignore_eos": True, **options}
    ours = Engine(artifact, backend).generate_ids(PROMPTS, **expected)
    with load(artifact.folder) as engine:
        theirs = engine.generate_ids(PROMPTS, **expected)
    assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
    whole = sum(size == 2 * backend.vocab_size for size in fetched)
    assert whole == (1 if not options or "top_k" in options else 12)  # the prompt's, or every step's
