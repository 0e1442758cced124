"""The real onnxruntime-gpu opens, places, records and calls graphs for ort-cuda, on a driver that computes nothing.

What is checked is all that happens around the kernels; no number that comes out means anything.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from jisu.runtimes import load
from tests.stand_in_gpu.cases import CASES, CLASSIFIERS, TEXT_TO_TEXT

pytestmark = pytest.mark.stand_in_gpu

MODELS = Path(__file__).parent.parent.parent / "build" / "stand-in-gpu" / "models"
TEXTS = ["hello", "a longer text, 你好 😀", "x"]
WAYS = (
    {},
    {"num_beams": 3},
    {"temperature": 0.8, "top_k": 5, "seed": 1},
    {"logprobs": 2},
    {"repetition_penalty": 1.2},
)
# What is free on the CPU, on shapes and counts; everything else has to be on the GPU.
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
COSTLY = {"MatMul", "MatMulNBits", "Gemm", "Attention", "GroupQueryAttention", "LSTM", "Conv", "Softmax"}


def counted(name: str) -> int:
    """How often the stand-in's runtime was asked for something, in this process."""
    return ctypes.c_longlong.in_dll(ctypes.CDLL("libcudart.so.13"), f"stand_in_{name}").value


@pytest.mark.parametrize("case", [*CASES, *TEXT_TO_TEXT], ids=lambda case: case.name)
def test_it_opens_with_all_that_costs_on_the_gpu_and_generates_in_every_way(case):
    with load(MODELS / case.name, "ort-cuda") as engine:
        placement = engine.backend.placement
        assert placement.strays == ()
        assert COSTLY & set(placement.counts[CUDA])
        assert not COSTLY & set(placement.counts.get(CPU, ()))
        assert (case.unrecorded is None) == (placement.unrecorded is None), placement.unrecorded
        assert (case.unrecorded or "") in (placement.unrecorded or "")
        if not case.runs:
            return
        kernels = counted("kernels")
        texts = TEXTS[:1] if case.is_recurrent else TEXTS
        for way in WAYS:
            actual = engine.generate(texts, max_new_tokens=5, ignore_eos=True, **way)
            assert [len(result.token_ids) for result in actual] == [5] * len(texts)
        if case not in TEXT_TO_TEXT:
            (scores,) = engine.score(["hello there"])
            assert len(scores.logprobs) == len(scores.token_ids) - 1
        assert counted("kernels") > kernels


@pytest.mark.parametrize("case", [case for case in CASES if case.runs], ids=lambda case: case.name)
def test_single_tokens_are_recorded_once_and_replayed(case):
    with load(MODELS / case.name, "ort-cuda") as engine:
        captures, replays, refused = (counted(what) for what in ("captures", "replays", "refused_while_capturing"))
        engine.generate(["hello"], max_new_tokens=9, ignore_eos=True)
        assert counted("refused_while_capturing") == refused
        if case.unrecorded is not None:
            assert (counted("captures"), counted("replays")) == (captures, replays)
        else:
            assert counted("captures") > captures
            assert counted("replays") - replays >= 4


@pytest.mark.parametrize("case", CLASSIFIERS, ids=lambda case: case.name)
def test_a_classifier_opens_with_all_that_costs_on_the_gpu_and_gives_labels(case):
    with load(MODELS / case.name, "ort-cuda") as engine:
        placement = engine.classifier.placement
        assert placement.strays == ()
        assert not COSTLY & set(placement.counts.get(CPU, ()))
        assert len(engine.classify(TEXTS)) == len(TEXTS)
