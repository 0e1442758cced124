from __future__ import annotations

import json

import pytest

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort_cuda import open as opening
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.placement_report import placement_report
from tests.runtimes.pretended_gpu import pretended_onnxruntime
from tests.runtimes.tiny_models import write_artifact


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "a", "ort-cpu")


def test_the_processor_really_tells_what_it_runs(artifact, capsys):
    assert jisu.main(["inspect", str(artifact.folder), "--backend", "ort-cpu"]) == 0
    said = capsys.readouterr().out
    assert "Placement on ort-cpu\n  CPUExecutionProvider: " in said
    assert "1  GroupQueryAttention" in said
    assert jisu.main(["inspect", str(artifact.folder), "--backend", "ort-cpu", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["placement"]["counts"]
    assert counts["CPUExecutionProvider"]["MatMul"] == 5


def test_what_is_not_on_the_gpu_is_named(artifact, monkeypatch):
    runtime = pretended_onnxruntime(strays=(("MatMulNBits", "layers.3"),))
    monkeypatch.setattr(
        opening, "open_ort_cuda", lambda artifact, **_: OrtCudaBackend(runtime, artifact, allow_cpu_nodes=True)
    )
    report = placement_report(artifact, "ort-cuda")
    assert report.elsewhere == ("MatMulNBits layers.3",)
    assert "not on the GPU: MatMulNBits layers.3" in report.describe()


def test_a_plan_runs_as_a_whole(tmp_path):
    report = placement_report(write_artifact(tmp_path / "t", "tensorrt"), "tensorrt-rtx")
    assert report.counts["tensorrt-rtx"]["TensorScatter"] == 2
    assert "No plan lies in" in report.notes[0]


def test_an_encoder_is_part_of_what_is_shown(text_to_text_artifact, text_to_text_tensorrt):
    import onnx_ir as ir

    actual = placement_report(text_to_text_artifact, "ort-cpu").counts["CPUExecutionProvider"]
    assert actual["Attention"] == 2 + 2
    nodes = [
        node for name in ("model.onnx", "encoder.onnx") for node in ir.load(text_to_text_tensorrt.folder / name).graph
    ]
    assert sum(placement_report(text_to_text_tensorrt, "tensorrt-rtx").counts["tensorrt-rtx"].values()) == len(nodes)


def test_plans_are_told_apart_by_their_records(tmp_path, monkeypatch):
    from jisu.runtimes.backends.tensorrt import plan_targets

    artifact = write_artifact(tmp_path / "t", "tensorrt")
    monkeypatch.setattr(plan_targets, "default_folder", lambda artifact: tmp_path)
    for library, notes in (("tensorrt", []), ("tensorrt-rtx", ["by single operators"])):
        record = {"schema": 1, "key": {"library": f"{library} 1"}, "size": 2_000_000, "sha256": "", "seconds": 1}
        (tmp_path / f"{library}-sm89.plan.gz").write_bytes(b"")
        (tmp_path / f"{library}-sm89.plan.gz.json").write_text(json.dumps({**record, "notes": notes}))
    assert placement_report(artifact, "tensorrt").notes == ("tensorrt-sm89.plan.gz: 2.0 MB, attention is fused",)
    assert placement_report(artifact, "tensorrt-rtx").notes == (
        "tensorrt-rtx-sm89.plan.gz: 2.0 MB, by single operators",
    )
    (tmp_path / "tensorrt-sm89.plan.gz.json").unlink()
    assert "is missing or damaged" in placement_report(artifact, "tensorrt").notes[0]


def test_other_backends_have_nothing_to_place(artifact):
    with pytest.raises(InputError, match="Allowed: ort-cpu, ort-cuda, tensorrt"):
        placement_report(artifact, "torch")
