"""A hub's cache is made of links, and only those may leave a folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from jisu.exporter.contract.hub_links import lies_in, names_a_place_inside


def as_cache(folder: Path, repository: Path) -> Path:
    """The files of a folder the way a hub's cache keeps them; returns the snapshot."""
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file").write_text("content")
    return as_cache(tmp_path / "model", tmp_path / "hub" / "any name")


def test_links_of_a_snapshot_to_its_blobs_are_inside(snapshot: Path, tmp_path: Path) -> None:
    assert lies_in(snapshot / "file", snapshot)
    (snapshot / "onnx").mkdir()
    (snapshot / "onnx" / "file").symlink_to(Path("../../../blobs") / (snapshot / "file").resolve().name)
    assert lies_in(snapshot / "onnx" / "file", snapshot / "onnx")
    (tmp_path / "link").symlink_to(snapshot)
    assert lies_in(tmp_path / "link" / "file", tmp_path / "link")


def test_a_folder_may_link_into_a_cache_that_is_elsewhere(tmp_path: Path) -> None:
    blob = tmp_path / "hub" / "models--a--b" / "blobs" / "0123"
    blob.parent.mkdir(parents=True)
    blob.write_text("content")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file").symlink_to(blob)
    assert lies_in(tmp_path / "model" / "file", tmp_path / "model")


def test_blobs_of_another_repository_and_links_out_of_blobs_are_outside(snapshot: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    other = tmp_path / "blobs" / "file"
    other.parent.mkdir()
    other.write_text("other")
    (snapshot / "other").symlink_to(other)
    assert not lies_in(snapshot / "other", snapshot)
    (snapshot.parent.parent / "blobs" / "chain").symlink_to(tmp_path / "secret")
    (snapshot / "chain").symlink_to("../../blobs/chain")
    assert not lies_in(snapshot / "chain", snapshot)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").symlink_to(other)
    assert not lies_in(tmp_path / "plain" / "file", tmp_path / "plain")


def test_names_that_climb_are_no_places_inside() -> None:
    assert names_a_place_inside("model.onnx.data")
    assert names_a_place_inside("extra/..name")
    for name in ("../file", "a/../file", "a\\..\\file", "/etc/hostname", "C:\\file", "C:file", "\\\\host\\file"):
        assert not names_a_place_inside(name), name
