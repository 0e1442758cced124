"""What onnxruntime-gpu says of a machine that lacks something, told by jisu in one sentence with the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes import load
from tests.stand_in_gpu.test_backend import MODELS, TEXTS, counted

pytestmark = pytest.mark.stand_in_gpu
ROOT = Path(__file__).parent.parent.parent
LLAMA = MODELS / "llama-ort-cuda-fp16"


@pytest.fixture
def full(monkeypatch):
    """Lets the GPU have no more memory than is taken, from now on."""
    return lambda: monkeypatch.setenv("STAND_IN_MEMORY", str(counted("taken")))


def refused(run, pattern):
    with pytest.raises(InputError, match=pattern) as caught:
        run()
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "value", "pattern"),
    [
        ("DEVICES", "0", "needs an NVIDIA GPU.*sees no device.*choose --backend ort-cpu"),
        ("DRIVER", "12080", "driver is too old.*CUDA 12.8.*13 or newer.*Update the driver"),
    ],
)
def test_a_machine_without_what_it_takes_is_refused_before_anything_is_loaded(monkeypatch, fault, value, pattern):
    monkeypatch.setenv(f"STAND_IN_{fault}", value)
    refused(lambda: load(LLAMA, "ort-cuda"), pattern)


def test_a_gpu_without_bfloat16_is_refused_for_it_alone(monkeypatch):
    monkeypatch.setenv("STAND_IN_CAPABILITY", "75")
    refused(
        lambda: load(MODELS / "llama-ort-cuda-bf16", "ort-cuda"),
        "too old for bf16.*compute capability 7.5.*8.0 or newer.*in fp16",
    )
    load(LLAMA, "ort-cuda").close()


def test_no_room_for_the_weights_says_how_much_they_need(full):
    full()
    refused(
        lambda: load(LLAMA, "ort-cuda"),
        r"no room for .*model.onnx.*0\.\d MB needed for its weights.*what is free of.*smaller precision",
    )


def test_no_room_for_the_state_says_how_much_all_of_it_needs(full):
    with load(LLAMA, "ort-cuda") as engine:
        full()
        # Keys and values of 2 layers, 2 heads of 16 numbers of 2 bytes each, for 500 tokens of 5000 rows.
        refused(
            lambda: engine.backend.new_state(5000, 500),
            f"no room for the state.*{2 * 2 * 2 * 16 * 2 * 500 * 5000 / 1e6:.1f} MB needed for 5000 rows of up to 500 "
            "tokens.*fewer rows",
        )


@pytest.mark.parametrize("wants", ["last", "all"])
def test_no_room_for_a_call_says_how_much_more_it_needs(full, wants):
    with load(LLAMA, "ort-cuda") as engine:
        state = engine.backend.new_state(64, 400)
        full()
        refused(
            lambda: engine.backend.forward(np.zeros((64, 300), np.int64), state, logits=wants),
            r"no room for a call.* MB more needed for a call of 64 rows of 300 tokens.*shorter prompt",
        )


def test_no_room_for_what_an_encoder_says_and_for_a_classifiers_call(full):
    with load(MODELS / "marian-ort-cuda-fp16", "ort-cuda") as engine:
        full()
        refused(
            lambda: engine.generate(["hello there " * 9] * 200, max_new_tokens=4), "no room for .* MB (more )?needed"
        )
    with load(MODELS / "bert-ort-cuda-fp16", "ort-cuda") as engine:
        full()
        refused(lambda: engine.classify(["hello there " * 9] * 200), r"no room for a call.*rows of \d+ tokens")


def test_the_engine_goes_on_after_a_call_that_found_no_room(monkeypatch, full):
    with load(LLAMA, "ort-cuda") as engine:
        full()
        refused(lambda: engine.generate(["a long text " * 20] * 64, max_new_tokens=100), "no room")
        monkeypatch.delenv("STAND_IN_MEMORY")
        assert len(engine.generate(TEXTS, max_new_tokens=3, ignore_eos=True)) == len(TEXTS)


def in_a_process(*arguments, libraries):
    """What `jisu` prints with other libraries, which a process finds when it starts."""
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    command = [sys.executable, "-m", "jisu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


WITH_CUDNN, WITHOUT_CUDNN = os.environ.get("LD_LIBRARY_PATH", ""), os.environ.get("LD_LIBRARY_PATH", "").split(":")[0]


def test_doctor_finds_the_gpu_and_says_ready():
    done = in_a_process("doctor", libraries=WITH_CUDNN)
    assert done.returncode == 0, done.stderr
    assert "ort-cuda      ready" in done.stdout


@pytest.mark.parametrize("family", ["lstm", "mamba"])
def test_without_cudnn_what_needs_it_says_how_to_get_it(family):
    prompt = ("generate", MODELS / f"{family}-ort-cuda-fp16", "--backend", "ort-cuda", "hello", "--max-new-tokens", 3)
    assert in_a_process(*prompt, libraries=WITH_CUDNN).returncode == 0
    done = in_a_process(*prompt, libraries=WITHOUT_CUDNN)
    assert done.returncode == 2
    assert "without cuDNN" in done.stderr
    assert "pip install 'jisu[cuda,cudnn]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_cudnn_a_transformer_runs():
    prompt = ("generate", LLAMA, "--backend", "ort-cuda", "hello", "--max-new-tokens", 3)
    done = in_a_process(*prompt, libraries=WITHOUT_CUDNN)
    assert done.returncode == 0, done.stderr
