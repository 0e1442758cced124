from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from jisu.calibration.w8a8.matmul import Int8Matmul
from jisu.exporter import pipeline
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.gate.weights import LIMIT, check_weights
from jisu.exporter.passes import lower_integer_matmul, lower_matmul_nbits, quantize_matmuls, quantize_weights
from jisu.exporter.pipeline import export
from tests.exporter.passes.draft import Draft, copied, noise
from tests.exporter.passes.test_lower_integer_matmul import with_bias
from tests.exporter.passes.test_quantize_matmuls import FIXED, bounded, product, two_products

TARGETS = ("ort-cpu", "portable")
FORMATS = [(precision, target) for precision in ("int8", "int4", "w8a8", "w8a8-dynamic") for target in TARGETS]
PRODUCTS = [(precision, target) for precision in ("w8a8", "w8a8-dynamic") for target in TARGETS]
# Random weights amplify whatever a reduced precision changes; these tests are not about quality.
LOOSE = {"max_kl": 5.0, "min_top1": 0.0, "max_perplexity_ratio": 50.0}


@pytest.fixture(autouse=True)
def traced(monkeypatch, tiny_traced):
    """Spare each export the seconds of its trace."""
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: copied(tiny_traced))


def exported(tiny_source, tmp_path, precision, target):
    return export(tiny_source, tmp_path / "out", precision=precision, target=target, **LOOSE)


@pytest.fixture(scope="module")
def written(tiny_source, tiny_traced, tmp_path_factory):
    """Exports of a precision for a target, each made once: (graph file, what was quantized)."""
    made = {}

    def export_once(precision, target):
        if (precision, target) not in made:
            kept = {}
            original = pipeline.run_quantization

            def keep(*arguments, **options):
                result = original(*arguments, **options)
                kept.update(result.by_name)
                return result

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pipeline, "trace_source", lambda source, **__: copied(tiny_traced))
                patch.setattr(pipeline, "run_quantization", keep)
                artifact = exported(tiny_source, tmp_path_factory.mktemp(precision), precision, target)
            made[precision, target] = artifact.graph, kept
        graph, kept = made[precision, target]
        return graph, dict(kept)

    return export_once


@pytest.mark.parametrize(("precision", "target"), FORMATS)
def test_what_was_written_is_what_was_intended(written, precision, target):
    check = check_weights(*written(precision, target))
    assert check.passed
    assert check.value < LIMIT / 4


def one_zero_point(part):
    zeros = part.zero_points.copy()
    zeros[-1, -1] ^= 1
    return replace(part, zero_points=zeros)


def one_code(part):
    codes = part.codes.copy()
    codes[3, 5] ^= 1
    return replace(part, codes=codes)


def one_row(part):
    codes = part.codes.copy()
    codes[[0, 1]] = codes[[1, 0]]
    return replace(part, codes=codes)


@pytest.mark.parametrize("fault", [one_zero_point, one_code, one_row])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.down_proj.weight", "model.layers.2.self_attn.k_proj.weight", "lm_head.weight"]
)
def test_the_smallest_difference_is_found_and_named(written, fault, name):
    graph, intended = written("int4", "ort-cpu")
    if fault is one_zero_point and intended[name].format.symmetric:
        pytest.skip("a symmetric weight stores no zero points")
    check = check_weights(graph, {**intended, name: fault(intended[name])})
    assert not check.passed
    assert name in check.detail


def one_scale(part):
    scales = part.scales.copy()
    scales[3] *= np.float32(1 + 1e-5)
    return replace(part, scales=scales)


@pytest.mark.parametrize("fault", [one_code, one_row, one_scale])
@pytest.mark.parametrize(("precision", "target"), PRODUCTS)
def test_the_smallest_difference_of_an_int8_matmul_is_found(written, precision, target, fault):
    graph, intended = written(precision, target)
    for name in ("model.layers.1.mlp.down_proj.weight", "model.layers.2.self_attn.k_proj.weight"):
        assert isinstance(intended[name], Int8Matmul)
        check = check_weights(graph, {**intended, name: fault(intended[name])})
        assert not check.passed
        assert f" of {name}" in check.detail


def one_bound(part):
    return replace(part, format=replace(part.format, lower_bound=part.format.lower_bound * (1 + 1e-4)))


@pytest.mark.parametrize("lowered", [False, True])
def test_what_a_lower_bound_adds_is_compared_too(tmp_path, lowered):
    weights = {"a": noise(8, 32), "b": noise(4, 32, seed=1)}
    intended = {name: bounded(weight, -0.17) for name, weight in weights.items()}
    model = two_products(Draft(), *weights.values())
    quantize_matmuls.quantize_matmuls(model.graph, quantized=intended)
    if lowered:
        lower_integer_matmul.lower_integer_matmul(model.graph)
    ir.save(model, tmp_path / "model.onnx")
    assert check_weights(tmp_path / "model.onnx", intended).passed
    for fault in (one_code, one_row, one_scale, one_bound):
        check = check_weights(tmp_path / "model.onnx", intended | {"b": fault(intended["b"])})
        assert not check.passed
        assert " of b" in check.detail


def test_a_bias_of_an_int8_matmul_is_no_weight(tmp_path):
    model = with_bias(100 * noise(8, seed=3))
    intended = {"a": product(noise(8, 32), FIXED)}
    lower_integer_matmul.lower_integer_matmul(model.graph)
    ir.save(model, tmp_path / "model.onnx")
    assert check_weights(tmp_path / "model.onnx", intended).passed
    assert not check_weights(tmp_path / "model.onnx", {"a": one_scale(intended["a"])}).passed


@pytest.mark.parametrize(("precision", "target"), FORMATS)
def test_one_code_of_an_embedding_is_found(written, precision, target):
    graph, intended = written(precision, target)
    name = "model.embed_tokens.weight"
    check = check_weights(graph, {**intended, name: one_code(intended[name])})
    assert not check.passed
    assert f"row 3 of {name}" in check.detail


def test_weights_that_no_node_reads_and_nodes_that_nobody_intended_are_failures(written):
    graph, intended = written("int8", "ort-cpu")
    other = {"other.weight": replace(intended["lm_head.weight"])}
    assert "no node of the file reads the integers of other.weight" in (check_weights(graph, intended | other).detail)
    del intended["lm_head.weight"]
    assert "lm_head.weight, which was not quantized" in check_weights(graph, intended).detail


def swapped_nibbles(codes):
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return np.bitwise_or(even[:, 1::2], even[:, 0::2] << 4, dtype=np.uint8)


def test_swapped_nibbles_are_rejected(tiny_source, tmp_path, monkeypatch):
    monkeypatch.setattr(lower_matmul_nbits, "pack_nibbles", swapped_nibbles)
    with pytest.raises(GateRejectedError, match="stored-weights"):
        exported(tiny_source, tmp_path, "int4", "ort-cpu")


def planted(monkeypatch, kind, change):
    """Let the pass store one kind of array (codes, scales, zero_points) changed."""
    original = quantize_weights._tensor

    def tensor(parts, which, dtype, **options):
        result = original(parts, which, dtype, **options)
        return ir.tensor(change(result.numpy()).astype(dtype.numpy())) if which == kind else result

    monkeypatch.setattr(quantize_weights, "_tensor", tensor)


@pytest.mark.parametrize("target", TARGETS)
def test_transposed_scales_are_rejected(tiny_source, tmp_path, monkeypatch, target):
    planted(monkeypatch, "scales", lambda array: np.ascontiguousarray(array.T).reshape(array.shape))
    with pytest.raises(GateRejectedError, match="stored-weights"):
        exported(tiny_source, tmp_path, "int4", target)


@pytest.mark.parametrize("target", TARGETS)
def test_transposed_codes_of_a_product_are_rejected(tiny_source, tmp_path, monkeypatch, target):
    original = quantize_matmuls._codes

    def codes(parts):
        array = original(parts).numpy()
        return ir.tensor(np.ascontiguousarray(array.T).reshape(array.shape))

    monkeypatch.setattr(quantize_matmuls, "_codes", codes)
    with pytest.raises(GateRejectedError, match="stored-weights"):
        exported(tiny_source, tmp_path, "w8a8", target)


@pytest.mark.parametrize("target", TARGETS)
def test_one_zero_point_that_is_off_by_one_is_rejected(tiny_source, tmp_path, monkeypatch, target):
    done = []

    def change(array):
        array = array.astype(np.uint8)
        if not done:
            array[-1, -1] ^= 1
            done.append(True)
        return array

    planted(monkeypatch, "zero_points", change)
    with pytest.raises(GateRejectedError, match="stored-weights"):
        exported(tiny_source, tmp_path, "int4", target)
