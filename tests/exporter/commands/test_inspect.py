"""`jisu inspect` shows an artifact, and says in one sentence what is wrong with a damaged one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import jisu
from jisu.exporter.contract.artifact import GRAPH, MANIFEST, Manifest, ModelFacts, record_files
from jisu.exporter.contract.signature import Signature


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / GRAPH).write_bytes(b"graph")
    manifest = Manifest(
        target="ort-cpu",
        precision="fp32",
        model=ModelFacts(
            architecture="TinyLM", vocab_size=7, max_positions=9, layers=1, parameters=99, bos=None, eos=(2,), pad=None
        ),
        signature=Signature(inputs=(), outputs=(), state=()),
        recipe=[],
        gate={},
        source={},
        versions={},
    )
    text = dataclasses.replace(manifest, files=record_files(tmp_path)).to_json()
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    return tmp_path


def test_artifact_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["inspect", str(folder)]) == 0
    assert "TinyLM" in capsys.readouterr().out


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["precision"] == "fp32"


def test_altered_file_is_found_with_hashes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / GRAPH).write_bytes(b"grapH")
    assert jisu.main(["inspect", str(folder)]) == 0
    assert jisu.main(["inspect", str(folder), "--hashes"]) == 2
    assert "another SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["no folder", "no manifest", "no json", "truncated"])
def test_damage_is_2_and_one_line(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    if damage == "no folder":
        folder = folder / "absent"
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    elif damage == "no json":
        (folder / MANIFEST).write_bytes(b"\xff{")
    else:
        (folder / GRAPH).write_bytes(b"")
    assert jisu.main(["inspect", str(folder)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("jisu inspect: error: ")
    assert shown.err.count("\n") == 1


def test_a_field_is_printed_as_json_and_an_unknown_one_names_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, value in (("precision", "fp32"), ("files.model.onnx.size", 5), ("manifest.model.eos", [2])):
        assert jisu.main(["inspect", str(folder), "--field", path]) == 0
        assert json.loads(capsys.readouterr().out) == value
    assert jisu.main(["inspect", str(folder), "--field", "model.vocabsize"]) == 2
    streams = capsys.readouterr()
    assert "Did you mean model.vocab_size?" in streams.err
    assert streams.out == ""
