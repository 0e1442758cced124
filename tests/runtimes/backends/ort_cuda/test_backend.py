from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort_cuda import session as ort_cuda_session
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.backends.ort_cuda.open import open_ort_cuda
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from tests.runtimes.pretended_gpu import pretended_onnxruntime
from tests.runtimes.tiny_models import write_artifact


def gpus(*, capability=(9, 0), cuda=(13, 0)):
    device = Gpu(name="NVIDIA H200", memory=1 << 37, compute_capability=capability)
    return GpuProbe(devices=(device,), driver_cuda=cuda)


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "a", "ort-cpu")


def test_past_and_present_are_one_address(artifact):
    state = OrtCudaBackend(pretended_onnxruntime(), artifact).new_state(2, 16)
    assert all(past is present for past, present in zip(state.past, state.present, strict=True))


def test_single_tokens_are_captured_once_for_each_state(artifact):
    backend = OrtCudaBackend(pretended_onnxruntime(), artifact)
    for batch in (1, 3):
        state = backend.new_state(batch, 16)
        backend.forward(np.full((batch, 4), 5), state)
        for token in (1, 2, 3):
            backend.forward(np.full((batch, 1), token), state)
    assert sorted(backend._graph.session.captured) == ["1", "2"]


@pytest.mark.parametrize(
    ("actual", "why"), [({"records": False}, "copies between the memories"), ({"loops": ("LSTM",)}, "LSTM of cuDNN")]
)
def test_what_cannot_be_recorded_runs_unrecorded_and_the_placement_says_so(artifact, actual, why):
    plain, unrecorded = (OrtCudaBackend(pretended_onnxruntime(**more), artifact) for more in ({}, actual))
    assert plain.placement.unrecorded is None
    assert why in unrecorded.placement.unrecorded
    tokens = []
    for backend in (plain, unrecorded):
        state = backend.new_state(1, 16)
        backend.forward(np.array([[5, 6, 7]]), state)
        tokens.append([int(backend.forward(np.array([[token]]), state).argmax()) for token in (1, 2, 3, 4)])
    assert tokens[0] == tokens[1]
    assert not unrecorded._graph.session.captured


@pytest.mark.parametrize("records", [True, False])
def test_a_graph_that_needs_cudnn_says_how_to_get_it(artifact, records, monkeypatch):
    runtime = pretended_onnxruntime(records=records)
    opened = runtime.InferenceSession

    def without_cudnn(path, options, providers):
        if providers[0][1]["enable_cuda_graph"] == "1" and not records:
            return opened(path, options, providers)
        raise RuntimeError("NOT_IMPLEMENTED : cuDNN is unavailable or disabled for CUDA Execution Provider")

    runtime.InferenceSession = without_cudnn
    with pytest.raises(InputError, match=r"without cuDNN.*pip install 'jisu\[cuda,cudnn\]'"):
        OrtCudaBackend(runtime, artifact)


def test_a_call_that_needs_cudnn_says_how_to_get_it():
    error = RuntimeError("while running Conv node: cuDNN is unavailable for CUDA Execution Provider: dlopen failed")
    assert "'jisu[cuda,cudnn]'" in str(ort_cuda_session.not_run(error, rows=1, tokens=1))


def test_a_node_on_the_processor_ends_the_opening_unless_it_is_allowed(artifact):
    runtime = pretended_onnxruntime(strays=(("MatMulNBits", "layers.3"), ("Shape", "free")))
    with pytest.raises(InputError, match="MatMulNBits layers.3.*--allow-cpu-nodes"):
        OrtCudaBackend(runtime, artifact)
    allowed = OrtCudaBackend(runtime, artifact, allow_cpu_nodes=True)
    assert allowed.placement.strays == ("MatMulNBits layers.3",)


def test_the_processors_package_is_one_clear_error(artifact):
    runtime = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="pip uninstall -y onnxruntime && pip install 'jisu"):
        OrtCudaBackend(runtime, artifact)


def test_no_driver_is_told_before_anything_is_loaded(artifact, monkeypatch):
    monkeypatch.setattr(
        ort_cuda_session, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver: libcuda.so.1 is not here")
    )
    with pytest.raises(InputError, match="libcuda.so.1 is not here.*--backend ort-cpu"):
        open_ort_cuda(artifact, threads=None, source=None)


def test_two_packages_in_one_environment_are_refused(artifact, monkeypatch):
    monkeypatch.setattr(ort_cuda_session, "probe_gpus", gpus)
    monkeypatch.setattr(
        ort_cuda_session, "installed_packages", lambda: {"onnxruntime": "1.32", "onnxruntime-gpu": "1.31"}
    )
    with pytest.raises(InputError, match="installed together.*pip uninstall -y onnxruntime onnxruntime-gpu && pip"):
        open_ort_cuda(artifact, threads=None, source=None)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "CUDA failure 2: out of memory\n at x",
            "no room for a call.*1 rows of 3 tokens.*fewer rows, a shorter prompt",
        ),
        ("Non-zero status code", "cannot run the graph on the GPU.*Non-zero status code.*jisu doctor"),
    ],
)
def test_a_call_that_fails_is_one_sentence(artifact, said, message, monkeypatch):
    backend = OrtCudaBackend(pretended_onnxruntime(), artifact)

    def fail(*_):
        raise RuntimeError(said)

    monkeypatch.setattr(backend._graph.session, "run_with_iobinding", fail)
    with pytest.raises(InputError, match=message):
        backend.forward(np.array([[1, 2, 3]]), backend.new_state(1, 8))


def test_memory_that_is_not_there_says_how_much_was_needed(artifact):
    runtime = pretended_onnxruntime()

    def full(*_):
        raise RuntimeError("CUDA failure 2: out of memory")

    backend = OrtCudaBackend(runtime, artifact)
    runtime.OrtValue = SimpleNamespace(ortvalue_from_numpy=full)
    with pytest.raises(InputError, match="no room for the state.*MB needed.*smaller --max-new-tokens"):
        backend.new_state(1, 1 << 16)


def test_a_gpu_without_room_for_the_weights_says_how_much_they_need(artifact, monkeypatch):
    runtime = pretended_onnxruntime()
    monkeypatch.setattr(ort_cuda_session, "probe_gpus", gpus)

    def full(*_, **__):
        raise RuntimeError("Failed to allocate memory for requested buffer of size 9\n at x")

    runtime.InferenceSession = full
    with pytest.raises(InputError, match=r"no room for .*\d\.\d MB needed for its weights.*MB of NVIDIA H200.*int8"):
        OrtCudaBackend(runtime, artifact)


def test_no_value_takes_the_place_of_another_that_the_processor_still_reads(artifact):
    runtime = pretended_onnxruntime()
    opened, sessions = runtime.InferenceSession, []
    runtime.InferenceSession = lambda path, options, providers: (
        sessions.append(options) or opened(path, options, providers)
    )
    OrtCudaBackend(runtime, artifact)
    assert [options.enable_mem_reuse for options in sessions] == [False]


def test_a_closed_backend_says_so(artifact):
    backend = OrtCudaBackend(pretended_onnxruntime(), artifact)
    state = backend.new_state(1, 4)
    backend.close()
    with pytest.raises(InputError, match="is closed"):
        backend.forward(np.array([[1]]), state)
