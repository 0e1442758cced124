from __future__ import annotations

import json
import shutil

import pytest

from jisu.benchmarks.compare.contestants import _sensitivity, artifact_contestants
from jisu.exporter.contract.errors import InputError


def contestants(folders, backends=("ort-cpu",), source=None):
    return artifact_contestants(folders, backends, threads=2, source=source)


def test_each_artifact_runs_on_each_backend_and_a_source_once(tiny):
    actual = contestants([tiny.fp32, tiny.int8], ("ort-cpu", "torch"), source="elsewhere")
    assert [item.name for item in actual] == ["fp32 (ort-cpu)", "source (torch)", "int8 (ort-cpu)"]
    assert [item.command[3:] for item in actual] == [
        (str(tiny.fp32), "ort-cpu", "2"),
        (str(tiny.fp32), "torch", "2", "elsewhere"),
        (str(tiny.int8), "ort-cpu", "2"),
    ]
    assert actual[2].facts["precision"] == "int8"
    assert actual[2].facts["export_seconds"] > 0
    assert actual[2].facts["gate"]["accepted"]
    assert actual[2].facts["size_bytes"] == sum(
        path.stat().st_size for path in tiny.int8.iterdir() if path.name != "timings.json"
    )


def test_folders_of_the_same_name_are_told_apart(tiny, tmp_path):
    shutil.copytree(tiny.fp32, tmp_path / "fp32")
    names = [item.name for item in contestants([tiny.fp32, tmp_path / "fp32"])]
    assert names == [f"{tiny.fp32.parent.name}/fp32 (ort-cpu)", f"{tmp_path.name}/fp32 (ort-cpu)"]


def test_what_cannot_be_read_is_a_contestant_with_the_reason(tiny, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny.fp32, damaged)
    (damaged / "model.onnx.data").write_bytes(b"")
    altered = tmp_path / "altered"
    shutil.copytree(tiny.fp32, altered)
    with (altered / "model.onnx.data").open("r+b") as weights:
        weights.write(b"1234")
    actual = contestants([tmp_path / "nothing", damaged, altered, tiny.fp32])
    assert "manifest.json cannot be read" in str(actual[0].problem)
    assert "model.onnx.data has 0 bytes" in str(actual[1].problem)
    assert "model.onnx.data has another SHA-256 than recorded" in str(actual[2].problem)
    assert actual[3].problem is None


def test_another_tokenizer_cannot_be_fed_the_same_tokens(tiny, tmp_path):
    from jisu.exporter import export
    from tests.support.models import write_tiny_llama

    other = export(write_tiny_llama(tmp_path / "source", vocab=400), tmp_path / "other")
    actual = contestants([tiny.fp32, other.folder])
    assert actual[0].problem is None
    assert "Its vocabulary is 400" in str(actual[1].problem)


def test_models_for_different_things_are_an_error(tiny, tiny_classifier):
    with pytest.raises(InputError, match=r"different kinds.*int8 for text-generation; .* for text-classification"):
        contestants([tiny.int8, tiny_classifier.folder])


def test_other_labels_cannot_be_compared(tiny_classifier, tmp_path):
    shutil.copytree(tiny_classifier.folder, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["model"]["labels"].reverse()
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    assert "Its labels are not those" in contestants([tiny_classifier.folder, tmp_path / "other"])[1].problem


def test_bad_names_are_errors(tiny):
    with pytest.raises(InputError, match="no such backend.*cuda.*ort-cpu, ort-cuda"):
        contestants([tiny.fp32], ("cuda",))
    with pytest.raises(InputError, match="named twice"):
        contestants([tiny.fp32, tiny.fp32.parent / "int8" / ".." / "fp32"])


def test_a_mix_brings_what_each_group_of_layers_costs():
    mix = {
        "units": [
            {"names": ["a", "b"], "format": "int8", "kl": {"fp32": 0.0, "int8": -1e-9}, "bytes": {"fp32": 8, "int8": 2}}
        ]
    }
    assert _sensitivity({"mix": mix}) == [
        {
            "layers": "a, b",
            "format": "int8",
            "kl": 0.0,
            "bytes": 2,
            "others": [{"format": "fp32", "kl": 0.0, "bytes": 8}],
        }
    ]
    assert _sensitivity({"formats": []}) is None
