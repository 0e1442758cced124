from __future__ import annotations

import json
import shutil

import pytest

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.verification import open_torch_module, verify
from tests.support.models import write_tiny_llama


@pytest.fixture(scope="module")
def other_source(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("other") / "source", layers=3, tied=False, seed=5)


def test_verify_accepts_what_was_exported(tiny_artifact):
    result = verify(tiny_artifact.folder)
    assert result.accepted, result.summary


def test_verify_rejects_another_model_as_source(tiny_artifact, other_source):
    result = verify(tiny_artifact.folder, source=other_source)
    assert not result.accepted
    assert result.first_failure.name.startswith("prefill")


@pytest.mark.parametrize("changes", [{"eos": [77]}, {"max_positions": 100_000}, {"pad": None}])
def test_verify_rejects_a_manifest_with_other_facts_than_its_source(tiny_artifact, tmp_path, changes):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_artifact.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"] |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = verify(folder)
    assert result.first_failure.name == "model-facts"
    assert next(iter(changes)) in result.first_failure.detail


def test_verify_says_first_that_the_source_is_another_one(tiny_artifact, other_source, capsys):
    assert jisu.main(["verify", str(tiny_artifact.folder), "--source", str(other_source)]) == 3
    assert capsys.readouterr().out.startswith("This is not the checkpoint it was made from")


def test_verify_says_that_a_tokenizer_was_not_verified(tiny_artifact, tiny_source, tmp_path):
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(tiny_source / name, tmp_path / name)
    assert any("was not verified" in note for note in verify(tiny_artifact.folder, source=tmp_path).notes)


def test_verify_refuses_an_altered_file(tiny_artifact, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_artifact.folder, folder)
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    with pytest.raises(InputError, match="another SHA-256"):
        verify(folder)


def test_a_source_that_is_gone_is_asked_for(tiny_artifact, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_artifact.folder, folder)
    timings = json.loads((folder / "timings.json").read_text())
    for places in ({"checkpoint": str(tmp_path / "gone"), "adapters": []}, None, "somewhere"):
        (folder / "timings.json").write_text(json.dumps({**timings, "places": places}))
        with pytest.raises(InputError, match="Name it with --source"):
            verify(folder)
    (folder / "timings.json").unlink()
    with pytest.raises(InputError, match="Name it with --source"):
        verify(folder)


def test_the_torch_backend_takes_the_recorded_checkpoint_only(tiny_artifact, tiny_source, other_source):
    assert open_torch_module(tiny_artifact, None).state_spec()
    assert open_torch_module(tiny_artifact, str(tiny_source)).state_spec()
    with pytest.raises(InputError, match="other hashes"):
        open_torch_module(tiny_artifact, str(other_source))


def test_verify_exits_with_3_for_another_model(tiny_artifact, other_source, capsys):
    assert jisu.main(["verify", str(tiny_artifact.folder), "--source", str(other_source)]) == 3
    out = capsys.readouterr().out
    assert "REJECTED" in out
    assert "FAIL  prefill-1" in out


def test_verify_prints_json_on_request(tiny_artifact, capsys):
    assert jisu.main(["verify", str(tiny_artifact.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] is True
