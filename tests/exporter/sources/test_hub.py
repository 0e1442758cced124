from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_embedder, write_tiny_llama

hub = pytest.importorskip("huggingface_hub", reason="hub ids need huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors", reason="hub ids need huggingface_hub")


class _Hub:
    """Stands in for the download: hands out what lies in a folder, as far as the patterns ask for it."""

    def __init__(self, folder: Path, snapshots: Path) -> None:
        self.folder = folder
        self.snapshots = snapshots
        self.calls: list[dict[str, Any]] = []

    def __call__(self, name: str, *, allow_patterns: list[str], **options: Any) -> str:
        self.calls.append({"name": name, "allow_patterns": allow_patterns, **options})
        snapshot = self.snapshots / "0123abc"
        snapshot.mkdir(parents=True, exist_ok=True)
        for pattern in allow_patterns:
            for path in self.folder.glob(pattern):
                place = snapshot / path.relative_to(self.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
        return str(snapshot)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Hub:
    monkeypatch.chdir(tmp_path)
    fake = _Hub(write_tiny_llama(tmp_path / "remote", layers=1), tmp_path / "snapshots")
    monkeypatch.setattr(hub, "snapshot_download", fake)
    return fake


def test_a_hub_id_is_downloaded_and_recorded_with_its_commit(fake_hub: _Hub) -> None:
    source = load_source("org/name", revision="main")
    assert {key: source.provenance[key] for key in ("kind", "name", "revision")} == {
        "kind": "hf-hub",
        "name": "org/name",
        "revision": "0123abc",
    }
    assert source.tokenizer is not None
    assert [call["revision"] for call in fake_hub.calls] == ["main"]


def test_only_files_that_are_read_are_asked_for(fake_hub: _Hub) -> None:
    load_source("org/name")
    (call,) = fake_hub.calls
    assert call["ignore_patterns"] == ["*/*"]
    assert not any(pattern.endswith((".bin", ".pt", ".py", ".h5", "*")) for pattern in call["allow_patterns"])


def test_the_modules_of_an_embedding_model_are_asked_for(fake_hub: _Hub) -> None:
    dense = ("Dense", {"in_features": 64, "out_features": 8})
    fake_hub.folder = write_tiny_embedder(fake_hub.folder.parent / "embedder", steps=(dense, ("Normalize", {})))
    (fake_hub.folder / "onnx").mkdir()
    (fake_hub.folder / "onnx" / "config.json").write_text("{}")
    source = load_source("org/name")
    assert source.model.embedding is not None and source.model.embedding.dimensions == 8
    assert not (fake_hub.snapshots / "0123abc" / "onnx").exists()
    assert load_source("org/name", outline=True).model.embedding == source.model.embedding


def test_pickles_are_asked_for_only_with_the_flag_and_only_in_want_of_better(fake_hub: _Hub) -> None:
    load_source("org/name", allow_pickle=True)
    assert len(fake_hub.calls) == 1
    (fake_hub.folder / "model.safetensors").rename(fake_hub.folder / "pytorch_model.bin")
    shutil.rmtree(fake_hub.snapshots)
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_source("org/name", allow_pickle=True)
    assert "pytorch_model*.bin" in fake_hub.calls[-1]["allow_patterns"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached"),
        (errors.LocalEntryNotFoundError("no network"), "cannot be reached"),
        (ConnectionError("no route"), "cannot be reached"),
        (errors.HFValidationError("bad"), "not a valid hub id"),
        (OSError("disk full"), "failed with OSError"),
        (RuntimeError("what next"), "failed with RuntimeError"),
    ],
)
def test_a_failed_download_is_one_clear_sentence(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(
        InputError,
        match=f"There is no folder or file org/name here, and as a model of the hub it cannot be fetched: .*{words}",
    ):
        load_source("org/name")


def test_a_folder_never_touches_the_network(fake_hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load_source(fake_hub.folder)
    assert fake_hub.calls == []
