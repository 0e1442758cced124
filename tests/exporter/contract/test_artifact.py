"""Only a complete, unaltered folder is an artifact."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.artifact import (
    GRAPH,
    MANIFEST,
    SCHEMA_VERSION,
    TIMINGS,
    WEIGHTS,
    Manifest,
    ModelFacts,
    check_outside_artifacts,
    read_artifact,
    record_files,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from tests.exporter.contract.test_hub_links import as_cache

MANIFEST_WITHOUT_FILES = Manifest(
    target="ort-cpu",
    precision="fp32",
    model=ModelFacts(
        architecture="TinyLM", vocab_size=7, max_positions=None, layers=1, parameters=99, bos=None, eos=(2, 3), pad=0
    ),
    signature=Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "K", 7)),),
        state=(StateSpec(past="p", present="q", kind="kv", dtype="float32", dims=("B", 1, "capacity", 4)),),
    ),
    recipe=[{"name": "fuse_gqa", "count": 1}],
    gate={"accepted": True},
    source={"licence": "自由"},
    versions={"jisu": "0.1.0"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete artifact with a graph, weights and one file in a subfolder."""
    folder = tmp_path / "artifact"
    (folder / "extra").mkdir(parents=True)
    (folder / GRAPH).write_bytes(b"graph")
    (folder / WEIGHTS).write_bytes(b"weights" * 300_000)  # longer than one block of the hash
    (folder / "extra" / "note.txt").write_text("note")
    (folder / TIMINGS).write_text("{}")
    write_manifest(folder, dataclasses.replace(MANIFEST_WITHOUT_FILES, files=record_files(folder)).to_json())
    return folder


def write_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def alter_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(data)
    write_manifest(folder, json.dumps(data))


def test_reading_gives_back_what_was_written(folder: Path) -> None:
    artifact = read_artifact(str(folder), check_hashes=True)
    assert dataclasses.replace(artifact.manifest, files={}) == MANIFEST_WITHOUT_FILES
    assert list(artifact.manifest.files) == ["extra/note.txt", GRAPH, WEIGHTS]
    assert artifact.size == 5 + 2_100_000 + 4
    assert artifact.graph == folder / GRAPH


def test_manifest_keeps_other_scripts_readable(folder: Path) -> None:
    assert "自由" in (folder / MANIFEST).read_text(encoding="utf-8")


def test_recorded_hash_is_the_sha256_of_the_file(folder: Path) -> None:
    assert record_files(folder)["extra/note.txt"].sha256 == hashlib.sha256(b"note").hexdigest()


def test_timings_may_differ_without_damage(folder: Path) -> None:
    (folder / TIMINGS).write_text('{"seconds": 3}')
    read_artifact(folder, check_hashes=True)


def test_nothing_else_is_written_into_an_artifact(folder: Path) -> None:
    for place in (folder, folder / "report", folder / "a" / "junit.xml"):
        with pytest.raises(InputError, match="cannot be written into an artifact"):
            check_outside_artifacts(place, option="--out")
    check_outside_artifacts(folder.parent / "report", option="--out")


def test_another_programs_manifest_makes_no_artifact(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"name": "an extension", "manifest_version": 3}', encoding="utf-8")
    check_outside_artifacts(tmp_path / "report", option="--out")


def test_missing_file_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=f"{WEIGHTS} is missing"):
        read_artifact(folder)


def test_truncated_file_is_named_with_both_sizes(folder: Path) -> None:
    (folder / GRAPH).write_bytes(b"gra")
    with pytest.raises(InputError, match="model.onnx has 3 bytes instead of 5"):
        read_artifact(folder)


def test_altered_file_of_equal_size_is_found_by_its_hash_only(folder: Path) -> None:
    (folder / GRAPH).write_bytes(b"grapH")
    read_artifact(folder)
    with pytest.raises(InputError, match="another SHA-256"):
        read_artifact(folder, check_hashes=True)


def test_all_damaged_files_are_named_at_once(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / GRAPH).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_artifact(folder)
    assert "model.onnx.data is missing" in str(caught.value)
    assert "model.onnx has 0 bytes" in str(caught.value)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "extra/../../outside"])
def test_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_bytes(b"12345")
    alter_manifest(folder, lambda data: data["files"].update({name: {"size": 5, "sha256": ""}}))
    with pytest.raises(InputError, match="points outside the folder"):
        read_artifact(folder)


def test_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(b"graph")
    (folder / GRAPH).unlink()
    (folder / GRAPH).symlink_to(outside)
    with pytest.raises(InputError, match="points outside the folder"):
        read_artifact(folder, check_hashes=True)


def test_an_artifact_in_a_hubs_cache_is_whole(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / "extra")
    write_manifest(folder, dataclasses.replace(MANIFEST_WITHOUT_FILES, files=record_files(folder)).to_json())
    snapshot = as_cache(folder, folder.parent / "hub" / "models--a--b")
    read_artifact(snapshot, check_hashes=True)
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to("../../blobs/gone")
    with pytest.raises(InputError, match=r"model.onnx.data is a link to ../../blobs/gone, where nothing is"):
        read_artifact(snapshot)


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, WEIGHTS])
def test_a_pointer_in_an_artifact_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 988097824\n")
    with pytest.raises(InputError, match=f"{name} is a git-lfs pointer"):
        read_artifact(folder)


def test_a_model_card_beside_the_files_is_no_damage(folder: Path) -> None:
    (folder / "README.md").write_text("# A model")
    (folder / ".gitattributes").write_text("*.data filter=lfs")
    read_artifact(folder, check_hashes=True)


def test_artifact_behind_a_link_to_its_folder_is_accepted(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    read_artifact(link, check_hashes=True)


def test_links_in_a_circle_are_damage_and_no_traceback(folder: Path) -> None:
    (folder / GRAPH).unlink()
    (folder / GRAPH).symlink_to(folder / GRAPH)
    with pytest.raises(InputError, match=GRAPH):
        read_artifact(folder)


def test_nul_in_a_name_is_damage_and_no_traceback(folder: Path) -> None:
    alter_manifest(folder, lambda data: data["files"].update({"a\0b": {"size": 5, "sha256": ""}}))
    with pytest.raises(InputError, match="cannot be read"):
        read_artifact(folder)


def test_folder_in_place_of_a_file_is_missing(folder: Path) -> None:
    (folder / GRAPH).unlink()
    (folder / GRAPH).mkdir()
    with pytest.raises(InputError, match="model.onnx is missing"):
        read_artifact(folder)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, "1", None])
def test_other_schema_is_refused_before_its_fields_are_read(folder: Path, version: object) -> None:
    write_manifest(folder, json.dumps({"schema_version": version, "unheard": "of"}))
    with pytest.raises(InputError, match="schema that this version cannot read"):
        read_artifact(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"schema_version": 1}', "[" * 100_000, '{"schema_version": 1, "model": 3}'],
)
def test_manifest_that_is_none_is_one_input_error(folder: Path, text: str) -> None:
    write_manifest(folder, text)
    with pytest.raises(InputError, match="is not a manifest"):
        read_artifact(folder)


def test_manifest_that_is_no_text_is_one_input_error(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="is not a manifest"):
        read_artifact(folder)


@pytest.mark.parametrize("key", ["model", "signature", "files", "gate"])
def test_manifest_without_a_section_is_one_input_error(folder: Path, key: str) -> None:
    alter_manifest(folder, lambda data: data.pop(key))
    with pytest.raises(InputError, match="is not a manifest"):
        read_artifact(folder)


def test_unknown_field_is_one_input_error(folder: Path) -> None:
    alter_manifest(folder, lambda data: data["model"].update(colour="red"))
    with pytest.raises(InputError, match="colour"):
        read_artifact(folder)


@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_what_is_no_artifact_is_called_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("x")
    with pytest.raises(InputError, match="is not an artifact"):
        read_artifact(path)


WRONG = {
    "vocab_size": [10**15, "7", -1, 0, True, 7.0],
    "max_positions": ["512", -1, 0, 10**15],
    "layers": ["x", -1],
    "parameters": ["many", -1],
    "eos": [[10**20], ["x"], "ab", 5, [7], [-1], [None]],
    "bos": ["x", 7],
    "pad": [10**9],
    "decoder_start": [10**9, "x"],
    "labels": ["ab", [5]],
    "architecture": [5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_model_fact_of_the_wrong_kind_is_named(folder: Path, name: str, value: object) -> None:
    alter_manifest(folder, lambda data: data["model"].update({name: value}))
    with pytest.raises(InputError, match="is not a manifest") as caught:
        read_artifact(folder)
    assert f"model.{name}" in str(caught.value)


SECTIONS = {
    "target": [5, ["a"]],
    "precision": [{}],
    "recipe": [{}, [5]],
    "gate": [[], {"checks": 5}, {"accepted": "yes"}, {"checks": [5]}],
    "source": [[], {"name": 5}, {"files": []}, {"files": {"a": 5}}],
    "versions": [5, {"a": 5}],
    "files": [[], {"model.onnx": 5}, {"model.onnx": {"size": -1, "sha256": ""}}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SECTIONS.items() for value in values])
def test_a_section_of_the_wrong_kind_is_named(folder: Path, name: str, value: object) -> None:
    alter_manifest(folder, lambda data: data.update({name: value}))
    with pytest.raises(InputError, match="is not a manifest") as caught:
        read_artifact(folder)
    assert f"Received: ValueError: {name}" in str(caught.value)


def test_all_wrong_entries_are_named_at_once(folder: Path) -> None:
    alter_manifest(folder, lambda data: (data.update(target=5), data["model"].update(layers=-1, eos=[99])))
    with pytest.raises(InputError) as caught:
        read_artifact(folder)
    for part in ("target is 5", "model.layers is -1", "model.eos names 99 instead of an id below 7"):
        assert part in str(caught.value)


def test_a_vocabulary_of_another_size_than_the_logits_is_refused(folder: Path) -> None:
    alter_manifest(folder, lambda data: data["model"].update(vocab_size=8))
    with pytest.raises(InputError, match="the logits have 7 columns"):
        read_artifact(folder)


@pytest.mark.parametrize("dims", [["B", 1, "capacity", 10**12], ["B", -2, "capacity", 4], ["B", True, "capacity", 4]])
def test_a_state_of_impossible_size_is_refused(folder: Path, dims: list[object]) -> None:
    alter_manifest(folder, lambda data: data["signature"]["state"][0].update(dims=dims))
    with pytest.raises(InputError, match="sizes must be"):
        read_artifact(folder)


@pytest.mark.parametrize("dtype", ["evil", 5, "O"])
def test_a_tensor_of_an_unknown_type_is_refused(folder: Path, dtype: object) -> None:
    alter_manifest(folder, lambda data: data["signature"]["state"][0].update(dtype=dtype))
    with pytest.raises(InputError, match="dtype must be one of"):
        read_artifact(folder)


def test_a_manifest_that_records_no_graph_is_refused(folder: Path) -> None:
    alter_manifest(folder, lambda data: data.update(files={}))
    with pytest.raises(InputError, match="files has no model.onnx"):
        read_artifact(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "extra/note.txt"])
def test_a_file_that_is_not_recorded_is_named(folder: Path, name: str) -> None:
    alter_manifest(folder, lambda data: data["files"].pop(name))
    with pytest.raises(InputError, match=f"{name} is not recorded"):
        read_artifact(folder)


def test_a_manifest_without_a_task_generates_text_and_an_unknown_one_is_named(folder: Path) -> None:
    alter_manifest(folder, lambda data: data.pop("task"))
    assert read_artifact(folder).manifest.model_kind == "text-generation"
    alter_manifest(folder, lambda data: data.update(task="text-to-speech"))
    with pytest.raises(InputError, match="task is 'text-to-speech' instead of one of text-generation"):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["model"].update(embedding=None), "where model.embedding is not there"),
        (
            lambda data: data["model"]["embedding"].update(dimensions=47),
            "47 dimensions where sentence_embedding has 48",
        ),
        (lambda data: data["signature"]["outputs"].pop(), "has no sentence_embedding of 2 dims"),
        (lambda data: data.update(task="token-classification"), "where model.embedding is there"),
    ],
)
def test_an_embedding_model_says_what_its_vectors_are(
    tiny_embedder: Any, tmp_path: Path, change: Any, words: str
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(tiny_embedder.folder, folder)
    assert read_artifact(folder).manifest.model.embedding == tiny_embedder.manifest.model.embedding
    alter_manifest(folder, change)
    with pytest.raises(InputError, match=words):
        read_artifact(folder)


def test_the_columns_of_a_classifiers_logits_are_its_labels(folder: Path) -> None:
    alter_manifest(folder, lambda data: data["model"].update(labels=["no", "yes"]))
    with pytest.raises(InputError, match="logits have 7 columns"):
        read_artifact(folder)
