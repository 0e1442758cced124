from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from jisu.exporter.contract.artifact import read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.machine import verified_files
from jisu.runtimes.machine.verified_files import verify_once
from jisu.runtimes.opening import load
from tests.runtimes.tiny_models import write_artifact


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verified_files, "_IN_THIS_PROCESS", {})
    write_artifact(tmp_path / "artifact", "ort-cpu")
    return tmp_path / "artifact"


def damage(path: Path, *, keep_time: bool = False) -> None:
    """Change one byte, and neither the size nor, on request, the time of the last change."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 1_000_000)))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process."""
    monkeypatch.setattr(verified_files, "_IN_THIS_PROCESS", {})


def test_hashes_are_compared_once_on_a_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = read_artifact(folder)
    assert verify_once(artifact) == len(artifact.manifest.files)
    assert verify_once(artifact) == 0
    forget(monkeypatch)
    assert verify_once(artifact) == 0
    (folder / "model.onnx").touch()
    assert verify_once(artifact) == 1


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("loaded_before", [False, True])
def test_damage_of_the_same_size_is_found(folder: Path, keep_time: bool, loaded_before: bool) -> None:
    if loaded_before:
        load(folder, threads=1).close()
    damage(folder / "model.onnx", keep_time=keep_time)
    for _ in range(2):
        with pytest.raises(InputError, match=r"is damaged.*model\.onnx has another SHA-256 than recorded"):
            load(folder, threads=1)
    # Who cannot wait is told nothing: here the runtime itself may or may not stumble over it.
    assert read_artifact(folder).folder == folder


def test_who_cannot_wait_has_the_sizes_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_files, "hash_file", lambda _: pytest.fail("read a file"))
    load(folder, threads=1, verify_hashes=False).close()


def test_a_copy_is_another_artifact(folder: Path, tmp_path: Path) -> None:
    verify_once(read_artifact(folder))
    shutil.copytree(folder, tmp_path / "copy")
    damage(tmp_path / "copy" / "model.onnx")
    with pytest.raises(InputError, match="is damaged"):
        verify_once(read_artifact(tmp_path / "copy"))
    # Nor does another one in its place profit from what was there before.
    shutil.rmtree(folder)
    shutil.move(tmp_path / "copy", folder)
    with pytest.raises(InputError, match="is damaged"):
        verify_once(read_artifact(folder))


@pytest.mark.parametrize("home", ["read-only", "a file", "relative", "broken record"])
def test_a_cache_that_cannot_be_used_costs_time_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    artifact = read_artifact(folder)
    place = tmp_path / "place"
    if home == "read-only":
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError("read-only")))
    elif home == "a file":
        place.write_text("")
    elif home == "relative":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache" if home == "relative" else str(place))
    if home == "broken record":
        verify_once(artifact)
        for record in place.rglob("*.json"):
            record.write_text('{"artifact": [')
        forget(monkeypatch)
    assert verify_once(artifact) == len(artifact.manifest.files)
    assert verify_once(artifact) == 0  # this process remembers
    assert not Path("cache").exists()
