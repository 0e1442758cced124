"""What all backends of a classifier have to do alike, on one small artifact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes import Engine
from jisu.runtimes.backends.backend_options import BackendOptions
from jisu.runtimes.backends.ort_cuda.one_pass import OrtCudaOnePass
from jisu.runtimes.backends.registry import open_backend, open_one_pass
from jisu.runtimes.backends.tensorrt import opening
from jisu.runtimes.backends.tensorrt.one_pass import open_one_pass_plan
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from tests.runtimes import pretended_gpu
from tests.runtimes.backends.tensorrt.pretended import PLAN, Cuda, pretended_library
from tests.runtimes.pretended_gpu import pretended_onnxruntime

ROWS = [[5, 6, 7], [9] * 20, [11], [12, 300]]


BACKENDS = ["ort-cpu", "torch", "ort-cuda, pretended", "tensorrt, pretended"]
# More rows than this go through a plan in groups.
SHAPES = Shapes(capacity=512, prompt=512, batch=3)


def opened(name, artifact):
    if name == "ort-cuda, pretended":
        return OrtCudaOnePass(pretended_onnxruntime(), artifact)
    if name == "tensorrt, pretended":
        return open_one_pass_plan(pretended_library(artifact), PLAN, artifact, shapes=SHAPES, cuda=Cuda())
    return open_one_pass(name, artifact)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request, tiny_classifier):
    outcome = opened(request.param, tiny_classifier)
    yield outcome
    outcome.close()


def test_a_row_never_depends_on_the_others(backend):
    together = backend.outputs(ROWS)
    assert together.dtype == np.float32
    assert together.shape == (4, 3)
    alone = np.concatenate([backend.outputs([row]) for row in ROWS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_all_give_the_same(backend, tiny_classifier):
    np.testing.assert_allclose(
        backend.outputs(ROWS), open_one_pass("ort-cpu", tiny_classifier).outputs(ROWS), atol=1e-5
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing to read. Received: no row"),
        ([[1], []], "nothing to read. Received: a row without tokens"),
        ([[1] * 513], "too long for the model. Received: 513 tokens. Allowed: at most 512"),
        ([[384]], "not in the vocabulary. Received: 384"),
        ([[-1]], "not in the vocabulary. Received: -1"),
    ],
)
def test_wrong_rows_are_refused(backend, rows, message):
    with pytest.raises(InputError, match=message):
        backend.outputs(rows)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_closed_backend_says_so(tiny_classifier, name):
    outcome = opened(name, tiny_classifier)
    outcome.close()
    outcome.close()
    with pytest.raises(InputError, match="is closed"):
        outcome.outputs(ROWS)


def test_a_classifier_is_as_strict_on_a_gpu_as_a_generator(tiny_classifier):
    runtime = pretended_onnxruntime(strays=(("Attention", "layers.1"),))
    with pytest.raises(InputError, match="Attention layers.1.*--allow-cpu-nodes"):
        OrtCudaOnePass(runtime, tiny_classifier)
    assert OrtCudaOnePass(runtime, tiny_classifier, allow_cpu_nodes=True).placement.strays == ("Attention layers.1",)


def test_a_call_that_a_gpu_has_no_room_for_is_one_sentence(tiny_classifier, monkeypatch):
    outcome = OrtCudaOnePass(pretended_onnxruntime(), tiny_classifier)

    def fail(*_):
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(pretended_gpu.Session, "run", fail)
    with pytest.raises(InputError, match="no room for a call.*4 rows of 20 tokens"):
        outcome.outputs(ROWS)


def test_options_of_another_backend_are_refused(tiny_classifier):
    with pytest.raises(InputError, match="ort-cpu does not take --plan.*it for tensorrt, tensorrt-rtx"):
        open_one_pass("ort-cpu", tiny_classifier, BackendOptions(plan=tiny_classifier.folder))


def test_an_artifact_of_another_task_is_refused(tiny_classifier):
    with pytest.raises(InputError, match="is a classifier and does not generate text"):
        open_backend("ort-cpu", tiny_classifier)


def test_a_plan_of_a_classifier_is_opened_as_any_other(tiny_classifier, monkeypatch, tmp_path):
    artifact = replace(tiny_classifier, manifest=replace(tiny_classifier.manifest, target="tensorrt"))
    requests = []

    def outcome(artifact, **options):
        requests.append(options)
        library = pretended_library(artifact)
        return [PLAN], {"library": library, "artifact": artifact, "shapes": SHAPES, "cuda": Cuda()}

    monkeypatch.setattr(opening, "_opened", outcome)
    with Engine(artifact, open_one_pass("tensorrt-rtx", artifact, BackendOptions(plan=tmp_path))) as engine:
        assert [row.tokens for row in engine.classify_ids(ROWS)] == [3, 20, 1, 2]
    assert requests == [{"name": "tensorrt-rtx", "plan": tmp_path, "capacity": None}]
