"""Exports for GPUs, verified without one: the exact graph runs on the CPU."""

from __future__ import annotations

import pytest

import jisu
from jisu.exporter.pipeline import export
from jisu.runtimes import load

PROMPTS = [[5, 6, 7], [9] * 20, [11]]


def tokens_of(folder):
    with load(folder) as engine:
        return [actual.token_ids for actual in engine.generate_ids(PROMPTS, max_new_tokens=12, ignore_eos=True)]


@pytest.mark.parametrize(
    ("target", "precision"), [("tensorrt", "fp32"), ("tensorrt", "fp16"), ("tensorrt", "int4"), ("ort-cuda", "fp16")]
)
def test_a_graph_for_a_gpu_is_verified_on_the_processor_and_says_so(
    tiny_source, tiny_artifact, tmp_path, target, precision
):
    # Random weights are sharper than any trained model's, and small ones have little to average over.
    limits = {} if precision == "fp32" else {"max_kl": 0.5, "min_top1": 0.3, "max_perplexity_ratio": 2.0}
    artifact = export(tiny_source, tmp_path / "out", target=target, precision=precision, **limits)
    gate = artifact.manifest.gate
    half = precision != "fp32"
    assert gate["accepted"]
    assert gate["ran_on"]["backend"] == "ort-cpu"
    assert gate["ran_on"]["graph"] == ("model.cpu.onnx" if half else "model.onnx")
    requests = {check["name"] for check in gate["checks"]}
    assert {"decode", "chunked-prefill", "batch-3"} <= requests
    assert half == ("float-types" in requests)
    if not half:
        assert tokens_of(artifact.folder) == tokens_of(tiny_artifact.folder)
    kinds = {spec.dtype for spec in artifact.manifest.signature.state}
    assert kinds == {"float16" if half else "float32"}
    if target == "tensorrt":
        assert artifact.manifest.signature.has_input("logits_positions")
        assert artifact.manifest.recipe[-1] == {"pass": "lint_tensorrt", "count": 0}


def test_inspect_names_what_ran_the_graph(tiny_artifact, capsys):
    assert jisu.main(["inspect", str(tiny_artifact.folder)]) == 0
    assert "verified on  ort-cpu (onnxruntime 1." in capsys.readouterr().out
