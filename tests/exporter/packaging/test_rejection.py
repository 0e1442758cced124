from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jisu.exporter.contract.artifact import REJECTED
from jisu.exporter.packaging.rejection import keep_rejected

MANIFEST: Any = SimpleNamespace(to_json=lambda: '{"gate": 1}', gate={"checks": []})


def staged(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    (place / "model.onnx").write_text(name)
    return place


def test_the_files_and_the_numbers_lie_beside_the_place(tmp_path: Path) -> None:
    error = keep_rejected(staged(tmp_path, "a"), tmp_path / "out", MANIFEST, summary="It differs.")
    place = tmp_path / "out.rejected"
    assert json.loads((place / REJECTED).read_text()) == {"gate": 1}
    assert "It differs." in str(error)
    assert error.gate == {"checks": []}
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]


def test_an_earlier_rejection_is_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        keep_rejected(staged(tmp_path, name), tmp_path / "out", MANIFEST, summary="")
    assert (tmp_path / "out.rejected" / "model.onnx").read_text() == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "out.rejected"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    error = keep_rejected(staged(tmp_path, ".out.1.partial"), tmp_path / "out", MANIFEST, summary="")
    assert [path.name for path in own.iterdir()] == ["notes.txt"]
    assert (tmp_path / ".out.1.rejected" / REJECTED).is_file()
    assert ".out.1.rejected" in str(error)
