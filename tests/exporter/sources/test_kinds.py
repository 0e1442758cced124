from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.kinds import kind_of


def test_a_path_that_exists_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kind_of("org/name") == "hf-hub"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert kind_of("org/name") == "hf-folder"


def test_gguf_is_known_by_its_ending_or_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "blob").write_bytes(b"GGUF\x03\0\0\0")
    assert kind_of(tmp_path / "empty.gguf") == "gguf"
    assert kind_of(str(tmp_path / "blob")) == "gguf"


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(InputError, match="unknown kind"):
        kind_of(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "name",
    ["", "nowhere", "./org/name", "/org/name", "org/name/more", "org/", "../org", "org/model.gguf", "org name/x"],
)
def test_what_neither_exists_nor_is_spelled_like_a_hub_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "":
        tmp_path = tmp_path / "empty name"
    with pytest.raises(InputError, match="does not exist"):
        kind_of(name or tmp_path)


def test_a_missing_path_object_is_never_a_hub_id() -> None:
    with pytest.raises(InputError, match="does not exist"):
        kind_of(Path("org/name"))


def test_a_revision_needs_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a hub id"):
        load_source(tmp_path, revision="main")


def test_importing_sources_imports_nothing_heavy() -> None:
    code = (
        "import sys, exporter.sources, exporter.sources.folder, exporter.sources.gguf.file, exporter.sources.hub\n"
        "heavy = {'torch', 'transformers', 'numpy', 'gguf', 'safetensors', 'huggingface_hub', 'tokenizers'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
