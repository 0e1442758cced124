from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.w8a8 import matmul
from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
from jisu.calibration.w8a8.pair_sums import quantize_pairs
from jisu.calibration.w8a8.static_activations import ActivationScale, quantize_rows
from jisu.exporter import pipeline
from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.exporter.gate.int8_sums import check_int8_sums
from jisu.exporter.passes.lower_integer_matmul import lower_integer_matmul
from jisu.exporter.passes.quantize_matmuls import quantize_matmuls
from jisu.exporter.pipeline import export
from jisu.runtimes.machine import int8_sums
from tests.exporter.passes.draft import Draft, copied, noise, operators

# Random weights amplify whatever a reduced precision changes; these tests are not about quality.
LOOSE = {"max_kl": 5.0, "min_top1": 0.0, "max_perplexity_ratio": 50.0}
SIGNED = ActivationScale(scale=0.05, zero_point=0, dtype="int8")
FORMS = [(fixed, lowered) for fixed in (SIGNED, SIGNED.as_unsigned(), None) for lowered in (False, True)]


def written(folder, quantize, activation, *, lowered):
    """Two products of one input, as the portable graph has them or as ONNX Runtime's operators."""
    draft, parts = Draft(), {}
    x = draft.input("x", "B", "T", 32)
    outputs = {}
    for name, weight in {"a": noise(8, 32), "b": noise(4, 32, seed=1)}.items():
        rows = quantize(weight)
        form = ActivationFormat(activation=activation)
        parts[name] = Int8Matmul(codes=rows.codes, scales=rows.scales, format=form)
        outputs[f"y_{name}"] = draft.op("MatMul", x, draft.weight(weight.T, name), dims=["B", "T", len(weight)])
    model = draft.model(**outputs)
    quantize_matmuls(model.graph, quantized=parts)
    if lowered:
        lower_integer_matmul(model.graph)
        operators(model)  # removes what is read no more
    ir.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(("activation", "lowered"), FORMS)
def test_codes_that_no_pair_overflows_with_pass(tmp_path, activation, lowered):
    [check] = check_int8_sums(written(tmp_path, quantize_pairs, activation, lowered=lowered))
    assert (check.passed, check.value) == (True, 0.0)
    assert "2 matmuls" in check.detail


@pytest.mark.parametrize(("activation", "lowered"), FORMS)
def test_one_pair_too_large_is_found_and_named(tmp_path, activation, lowered):
    def almost(weight):
        rows = quantize_pairs(weight)
        if len(weight) == 4:
            rows.codes[2, 6:8] = -127, -2
        return rows

    [check] = check_int8_sums(written(tmp_path, almost, activation, lowered=lowered))
    assert not check.passed
    assert check.value > 0
    assert "output 2 of b is off by" in check.detail


def test_a_graph_without_such_matmuls_has_nothing_to_check(tmp_path):
    draft = Draft()
    x = draft.input("x", "B", "T", 32)
    ir.save(
        draft.model(y=draft.op("MatMul", x, draft.weight(noise(32, 8), "w"), dims=["B", "T", 8])), tmp_path / "m.onnx"
    )
    assert check_int8_sums(tmp_path / "m.onnx") == []


@pytest.fixture
def traced(monkeypatch, tiny_traced):
    """Spare each export the seconds of its trace."""
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: copied(tiny_traced))


@pytest.mark.usefixtures("traced")
def test_codes_that_overflow_elsewhere_are_rejected(tiny_source, tmp_path, monkeypatch):
    monkeypatch.setattr(matmul, "quantize_pairs", lambda weight, importance: quantize_rows(weight))
    with pytest.raises(GateRejectedError) as caught:
        export(tiny_source, tmp_path / "out", precision="w8a8-dynamic", **LOOSE)
    failed = [check["name"] for check in caught.value.gate["checks"] if not check["passed"]]
    assert "int8-sums" in failed


@pytest.mark.usefixtures("traced")
def test_an_artifact_says_for_which_kernels_it_was_verified(tiny_source, tmp_path):
    everywhere = export(tiny_source, tmp_path / "any", precision="w8a8", **LOOSE).manifest
    assert everywhere.kernels == "any"
    assert "int8-sums" in [check["name"] for check in everywhere.gate["checks"]]
    if int8_sums.int8_sums_overflow():
        with pytest.raises(InputError, match="cannot be verified on this one"):
            export(tiny_source, tmp_path / "vnni", precision="w8a8", assume_vnni=True, **LOOSE)
        return
    made = export(tiny_source, tmp_path / "vnni", precision="w8a8", assume_vnni=True, **LOOSE)
    assert made.manifest.kernels == "vnni"
    assert made.manifest.needs_vnni
    assert "int8-sums" not in [check["name"] for check in made.manifest.gate["checks"]]
    assert "VNNI" in made.manifest.gate["notes"][0]
    [check] = check_int8_sums(made.graph)
    assert not check.passed, "its codes are those that overflow elsewhere"


def test_what_cannot_be_verified_here_is_refused_before_the_checkpoint_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(int8_sums, "int8_sums_overflow", lambda: True)
    with pytest.raises(InputError, match="cannot be verified on this one"):
        export(tmp_path / "nowhere", tmp_path / "out", precision="w8a8", assume_vnni=True)


def test_a_precision_that_does_not_need_it_refuses_the_assumption(tmp_path):
    with pytest.raises(InputError, match="the same with and without VNNI"):
        export(tmp_path / "nowhere", tmp_path / "out", precision="int8", assume_vnni=True)


def test_the_worst_of_many_rows_is_told(tmp_path):
    def all_alike(weight):
        return quantize_rows(np.ones_like(weight))

    [check] = check_int8_sums(written(tmp_path, all_alike, None, lowered=True))
    assert check.value == pytest.approx(1 - 32767 / (2 * 127 * 255))
