from __future__ import annotations

import shutil

import numpy as np
import pytest

from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.exporter.graph import activation_ranges
from jisu.exporter.pipeline import export
from jisu.exporter.precision.half_precision import computed_half, describe_half
from jisu.exporter.precision.precision import PRECISIONS
from jisu.exporter.verification import verify
from jisu.runtimes import load

PARAMETER = "model.layers.1.mlp.{}.weight"


@pytest.fixture(scope="module")
def loud_source(tiny_source, tmp_path_factory):
    """The tiny model with one projection scaled up and the next one down: the same function, but what lies between
    them does not fit float16."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("loud") / "source"
    shutil.copytree(tiny_source, folder)
    weights = load_file(folder / "model.safetensors")
    weights[PARAMETER.format("up_proj")] = weights[PARAMETER.format("up_proj")] * np.float32(1 << 17)
    weights[PARAMETER.format("down_proj")] = weights[PARAMETER.format("down_proj")] / np.float32(1 << 17)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_activation_beyond_the_range_stays_float32_and_is_recorded(loud_source, tmp_path):
    artifact = export(loud_source, tmp_path / "out", target="portable", precision="fp16")
    record = next(step for step in artifact.manifest.recipe if step["pass"] == "compute_half")
    assert "model.layers.1.mlp.up_proj" in record["note"]
    assert "on calibration text" in record["note"]
    assert "layers.0" not in record["note"]


def test_without_the_measurement_the_gate_rejects_it(loud_source, tmp_path, monkeypatch):
    monkeypatch.setattr(activation_ranges, "measure_ranges", lambda graph, windows: {})
    with pytest.raises(GateRejectedError, match="finite|NaN|infinity"):
        export(loud_source, tmp_path / "out", target="portable", precision="fp16")
    assert not (tmp_path / "out").exists()


def test_bf16_needs_no_float32_for_it(loud_source, tmp_path):
    artifact = export(loud_source, tmp_path / "out", target="portable", precision="bf16")
    record = next(step for step in artifact.manifest.recipe if step["pass"] == "compute_half")
    assert "calibration text" not in record["note"]


@pytest.mark.parametrize(("target", "precision"), [("ort-cpu", "bf16"), ("portable", "fp16"), ("portable", "bf16")])
def test_an_artifact_generates_and_is_verified_again(tiny_source, tmp_path, target, precision):
    artifact = export(tiny_source, tmp_path / "out", target=target, precision=precision)
    state = {spec.dtype for spec in artifact.manifest.signature.state}
    assert state == {"float32" if target == "ort-cpu" else {"fp16": "float16", "bf16": "bfloat16"}[precision]}
    assert {spec.dtype for spec in artifact.manifest.signature.outputs} == {"float32"}
    with load(artifact.folder) as engine:
        alone = engine.generate("The capital of France is", chat=False, max_new_tokens=6, temperature=0)
        # Rows of a batch share the state's memory; beginning together or alone, they say the same.
        pair = engine.generate(
            ["The capital of France is", "def add(a, b):"], chat=False, max_new_tokens=6, temperature=0
        )
    assert pair[0].token_ids == alone.token_ids
    assert verify(artifact.folder).accepted


def test_half_the_bytes(tiny_source, tiny_artifact, tmp_path):
    artifact = export(tiny_source, tmp_path / "out", precision="fp16")
    weights = [item.manifest.files["model.onnx.data"].size for item in (artifact, tiny_artifact)]
    # Rotary tables and norms stay: 64 kB of them, much beside a tiny model.
    assert weights[0] - (1 << 16) < 0.51 * (weights[1] - (1 << 16))


def test_a_kept_layer_stays_float32_in_the_file(tiny_source, tmp_path):
    import onnx_ir as ir

    artifact = export(tiny_source, tmp_path / "out", target="portable", precision="fp16", keep=["*.down_proj"])
    kinds = {name: value.dtype for name, value in ir.load(artifact.graph).graph.initializers.items()}
    assert kinds[PARAMETER.format("down_proj")] == ir.DataType.FLOAT
    assert kinds[PARAMETER.format("up_proj")] == ir.DataType.FLOAT16
    assert artifact.manifest.quantization["kept"] == [f"model.layers.{layer}.mlp.down_proj" for layer in range(3)]
    with pytest.raises(InputError, match="matches nothing"):
        export(tiny_source, tmp_path / "other", precision="fp16", keep=["*.nothing"])


@pytest.mark.parametrize("options", [{"block_size": 32}, {"symmetric": True}, {"calibration": "text.txt"}])
def test_options_that_change_nothing_are_refused(tiny_source, tmp_path, options):
    with pytest.raises(InputError):
        export(tiny_source, tmp_path / "out", precision="fp16", **options)


def test_what_is_not_gained_is_said_where_it_is_not():
    assert "halves the files and nothing else" in (describe_half("ort-cpu", "bf16") or "")
    assert "--precision int8" in (describe_half("ort-cpu", "fp16") or "")
    assert describe_half("portable", "fp16") is None
    assert describe_half("ort-cpu", "fp32") is None


@pytest.mark.parametrize(
    ("precision", "target", "half"),
    [
        ("fp16", "ort-cpu", None),
        ("fp16", "portable", "float16"),
        ("bf16", "tensorrt", "bfloat16"),
        ("int4", "tensorrt", "float16"),
        ("int8", "ort-cuda", "float16"),
        ("mixed", "ort-cuda", "float16"),
        ("gguf", "ort-cuda", "float16"),
        ("gguf", "ort-cpu", None),
        ("int4", "portable", None),
        ("w8a8", "tensorrt", None),
        ("fp32", "tensorrt", None),
    ],
)
def test_gpus_multiply_integer_weights_in_half(precision, target, half):
    assert computed_half(PRECISIONS[precision], target) == half
