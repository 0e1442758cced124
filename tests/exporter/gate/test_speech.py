"""Faults of models that hear, each of which a check of the gate has to find."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from jisu.exporter.contract.artifact import (
    AUDIO_GRAPH,
    AUDIO_SETTINGS,
    ENCODER,
    GRAPH,
    MANIFEST,
    read_artifact,
    record_files,
)
from jisu.exporter.gate.prove import prove
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def speech(speech_source: Path) -> Any:
    return load_source(speech_source)


@pytest.fixture(scope="module")
def frames(frames_source: Path) -> Any:
    return load_source(frames_source)


def failures(artifact: Any, source: Any, folder: Path, damage: Any) -> list[str]:
    """The checks that fail when a copy of an artifact is damaged, with a manifest that knows of nothing."""
    shutil.copytree(artifact.folder, folder)
    damage(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"] = {name: vars(record) for name, record in record_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    budget = precision_named("fp32").budget
    result = prove(read_artifact(folder), source, budget=budget)
    return [check.name for check in result.checks if not check.passed]


def change_weight(graph: str, match: str, change: Any) -> Any:
    def damage(folder: Path) -> None:
        model = onnx.load(str(folder / graph))
        matching = [one for one in model.graph.initializer if match in one.name and one.dims]
        assert matching, [one.name for one in model.graph.initializer]
        for one in matching:
            value = numpy_helper.to_array(one)
            one.CopyFrom(numpy_helper.from_array(np.asarray(change(value), value.dtype), one.name))
        del model.graph.metadata_props[:]
        for path in (folder / graph, folder / f"{graph}.data"):
            if path.exists() and path.suffix == ".onnx":
                path.unlink()
        onnx.save(model, str(folder / graph))

    return damage


def test_an_intact_copy_passes(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    assert failures(speech_artifact, speech, tmp_path / "copy", lambda folder: None) == []


def test_other_filters_are_found_by_the_features(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    damage = change_weight(AUDIO_GRAPH, "filters", lambda value: value[:, ::-1])
    assert "features" in failures(speech_artifact, speech, tmp_path / "copy", damage)


def test_a_shifted_window_is_found_by_the_features(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    damage = change_weight(AUDIO_GRAPH, "kernels", lambda value: np.roll(value, 7, axis=-1) * 1.05)
    assert "features" in failures(speech_artifact, speech, tmp_path / "copy", damage)


def test_a_wrong_convolution_is_found_by_the_answers(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    damage = change_weight(ENCODER, "conv2.weight", lambda value: value[:, ::-1])
    assert "recording-voice" in failures(speech_artifact, speech, tmp_path / "copy", damage)


def test_a_wrong_weight_of_the_decoder_is_found(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    damage = change_weight(GRAPH, "embed_positions", lambda value: np.roll(value, 1, axis=0))
    assert "prefill-2" in failures(speech_artifact, speech, tmp_path / "copy", damage)


def test_another_language_token_is_found_in_the_folder(speech_artifact: Any, speech: Any, tmp_path: Path) -> None:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / AUDIO_SETTINGS).read_text(encoding="utf-8"))
        stored["languages"]["en"], stored["languages"]["de"] = stored["languages"]["de"], stored["languages"]["en"]
        (folder / AUDIO_SETTINGS).write_text(json.dumps(stored), encoding="utf-8")

    budget = precision_named("fp32").budget
    from functools import partial

    from jisu.exporter.packaging.folder_files import write_folder_files

    shutil.copytree(speech_artifact.folder, tmp_path / "copy")
    damage(tmp_path / "copy")
    manifest = speech_artifact.manifest
    write = partial(write_folder_files, source=speech, signature=manifest.signature, target=manifest.target)
    copy = type(speech_artifact)(folder=tmp_path / "copy", manifest=manifest)
    result = prove(copy, speech, budget=budget, write_files=write)
    assert [check.name for check in result.checks if not check.passed] == ["folder"]


def test_a_wrong_head_of_frames_is_found(frames_artifact: Any, frames: Any, tmp_path: Path) -> None:
    assert failures(frames_artifact, frames, tmp_path / "intact", lambda folder: None) == []
    damage = change_weight(GRAPH, "lm_head.bias", lambda value: np.arange(len(value)) * 3.0)
    names = failures(frames_artifact, frames, tmp_path / "copy", damage)
    assert "recording-voice" in names and "labels" in names
