"""Mixtures of experts in integers: every expert's matrix is quantized, and a fault in one of them is found."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from jisu.exporter import pipeline
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.gate.weights import check_weights
from jisu.exporter.pipeline import export
from tests.support.mixtures import EXPERTS, never_routed, small_mixture, write_mixture, write_shared_mixture
from tests.support.models import tiny_tokenizer

# Random weights amplify whatever a reduced precision changes; these tests are not about quality.
LOOSE = {"max_kl": 5.0, "max_confident_changes": 1.0, "min_top1": 0.0, "max_perplexity_ratio": 50.0}
LAYERS = 2
NAMES = {
    f"model.layers.{layer}.mlp.experts.{number}.{kind}"
    for layer in range(LAYERS)
    for number in range(EXPERTS)
    for kind in ("gate_up_proj", "down_proj")
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_mixture(tmp_path_factory.mktemp("mixture") / "source")


@pytest.fixture(scope="module")
def artifact(source, tmp_path_factory):
    return export(source, tmp_path_factory.mktemp("int4") / "out", precision="int4", **LOOSE)


def quantized_names(artifact):
    record = json.loads((artifact.folder / "manifest.json").read_text())["quantization"]
    return {name for entry in record["formats"] if entry["format"] for name in entry["names"]}


def floats_of(artifact):
    model = onnx.load(artifact.graph)
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return max((array.size for array in arrays if array.dtype == np.float32), default=0)


def test_every_expert_is_in_integers_and_no_matrix_is_left_in_float32(artifact):
    assert quantized_names(artifact) >= NAMES
    assert floats_of(artifact) < 64 * 96
    products = [
        node for node in onnx.load(artifact.graph, load_external_data=False).graph.node if node.op_type == "MatMulNBits"
    ]
    assert len(products) >= len(NAMES)


@pytest.mark.parametrize(
    ("precision", "target"),
    [
        ("int8", "ort-cpu"),
        ("int4", "portable"),
        ("w8a8-dynamic", "ort-cpu"),
        ("int4", "ort-cuda"),
        ("int8", "tensorrt"),
    ],
)
def test_every_precision_and_target_of_integers_takes_them(source, tmp_path, precision, target):
    written = export(source, tmp_path / "out", precision=precision, target=target, **LOOSE)
    assert quantized_names(written) >= NAMES
    sizes = sum(path.stat().st_size for path in written.folder.glob("model.onnx*"))
    assert sizes < 0.6 * (source / "model.safetensors").stat().st_size


def test_an_expert_that_every_token_goes_through_is_in_integers_as_well(tmp_path):
    written = export(write_shared_mixture(tmp_path / "source"), tmp_path / "out", precision="int8", **LOOSE)
    shared = {f"model.layers.0.mlp.shared_expert.{kind}_proj" for kind in ("gate", "up", "down")}
    assert quantized_names(written) >= shared
    assert floats_of(written) < 64 * 96


def test_an_expert_that_no_text_reached_is_rounded_and_named(tmp_path, capsys):
    from jisu.exporter.sources.quiet import quiet_transformers

    model = small_mixture(num_local_experts=5)
    never_routed(model)
    with quiet_transformers():
        model.save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    written = export(tmp_path / "source", tmp_path / "out", precision="int4", **LOOSE)
    record = json.loads((written.folder / "manifest.json").read_text())["quantization"]
    assert record["unreached"] == [f"model.layers.0.mlp.experts.4.{kind}" for kind in ("gate_up_proj", "down_proj")]


def swapped(by_name):
    one, other = (f"model.layers.1.mlp.experts.{number}.down_proj.weight" for number in (1, 3))
    by_name[one], by_name[other] = by_name[other], by_name[one]


def doubled(by_name):
    from dataclasses import replace

    name = "model.layers.0.mlp.experts.2.gate_up_proj.weight"
    by_name[name] = replace(by_name[name], scales=by_name[name].scales * 2)


@pytest.mark.parametrize("fault", [swapped, doubled])
def test_experts_exchanged_or_scaled_on_the_way_into_the_file_are_named(source, tmp_path, monkeypatch, fault):
    original = pipeline.run_quantization
    kept = {}

    def keep(*arguments, **options):
        result = original(*arguments, **options)
        kept.update(result.by_name)
        return result

    monkeypatch.setattr(pipeline, "run_quantization", keep)
    written = export(source, tmp_path / "out", precision="int8", **LOOSE)
    assert check_weights(written.graph, kept).passed
    fault(kept)
    check = check_weights(written.graph, kept)
    assert not check.passed
    assert ".mlp.experts." in check.detail


@pytest.mark.parametrize("fault", [swapped, doubled])
def test_experts_quantized_from_other_weights_fail_the_whole_gate(source, tmp_path, monkeypatch, fault):
    """What the integers mean is wrong from the start, so that no comparison with themselves tells."""
    original = pipeline.run_quantization

    def spoil(*arguments, **options):
        result = original(*arguments, **options)
        fault(result.by_name)
        return result

    monkeypatch.setattr(pipeline, "run_quantization", spoil)
    with pytest.raises(GateRejectedError):
        export(source, tmp_path / "out", precision="int8", max_kl=0.05)


def test_a_router_that_sends_tokens_elsewhere_is_found_without_rounded_activations(source, tmp_path, monkeypatch):
    original = pipeline.trace_source

    def turned(*arguments, **options):
        graph = original(*arguments, **options)
        router = graph.graph.initializers["model.layers.1.mlp.gate.weight"]
        import onnx_ir as ir

        router.const_value = ir.tensor(-router.const_value.numpy(), name=router.name)
        return graph

    monkeypatch.setattr(pipeline, "trace_source", turned)
    with pytest.raises(GateRejectedError, match=r"whole-range|float-weights"):
        export(source, tmp_path / "out", precision="int4", **LOOSE)


def test_a_weight_of_an_expert_that_the_graph_reads_as_floats_is_compared_by_its_name(source, tmp_path, monkeypatch):
    from jisu.exporter.gate.float_weights import check_float_weights
    from jisu.exporter.sources import load_source

    written = export(source, tmp_path / "out", precision="fp32")
    module = load_source(source).module
    assert check_float_weights(written.graph, module).passed
    module.get_parameter("model.layers.1.mlp.experts.down_proj").data[2, 0, 0] += 1
    check = check_float_weights(written.graph, module)
    assert not check.passed
    assert "model.layers.1.mlp.experts.2.down_proj.weight" in check.detail
