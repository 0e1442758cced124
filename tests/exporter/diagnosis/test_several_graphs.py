"""Faults planted in each graph of artifacts that have several: each is found by the module where it begins."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.artifact import MANIFEST, record_files
from jisu.exporter.diagnosis import diagnose


def sabotaged(artifact: Any, folder: Path, file: str, weight: str) -> Path:
    """A copy of an artifact in one of whose graphs a weight, by a part of its name, is a tenth larger."""
    shutil.copytree(artifact.folder, folder)
    model = ir.load(artifact.folder / file)
    (value,) = (value for name, value in model.graph.initializers.items() if weight in name)
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.1), name=value.name)
    ir.save(model, folder / file)
    manifest = replace(artifact.manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def test_nothing_diverges_in_a_right_artifact(speech_artifact: Any, speech_source: Path) -> None:
    diagnosis = diagnose(speech_artifact.folder, source=speech_source)
    assert diagnosis.finding is None
    names = {piece.partition(":")[0] for piece in diagnosis.pieces}
    assert names == {"encoder", "decoder"}
    assert "decoder: output" in diagnosis.pieces
    assert np.nanmax(diagnosis.errors) < 1e-4


@pytest.mark.parametrize(
    ("file", "weight", "piece", "layer"),
    [
        (
            "encoder.onnx",
            "encoder.layers.1.final_layer_norm.weight",
            "encoder: model.encoder.layers.1.final_layer_norm",
            1,
        ),
        ("model.onnx", "decoder.layers.0.self_attn_layer_norm.weight", "self_attn_layer_norm", 0),
    ],
)
def test_a_fault_of_speech_is_found_where_it_begins(
    file: str, weight: str, piece: str, layer: int, speech_artifact: Any, speech_source: Path, tmp_path: Path
) -> None:
    folder = sabotaged(speech_artifact, tmp_path / "wrong", file, weight)
    finding = diagnose(folder, source=speech_source, steps=2).finding
    assert finding is not None
    assert piece in finding.piece
    assert (finding.layer, finding.step) == (layer, 0)
    assert finding.subgraph.is_file()
    assert (finding.subgraph.parent / "example.npz").is_file()


def test_a_fault_of_frames_is_found(frames_artifact: Any, frames_source: Path, tmp_path: Path) -> None:
    weight = "encoder.layers.1.final_layer_norm.weight"
    folder = sabotaged(frames_artifact, tmp_path / "wrong", "model.onnx", weight)
    finding = diagnose(folder, source=frames_source).finding
    assert finding is not None
    assert finding.piece == "frames: wav2vec2.encoder.layers.1.final_layer_norm"


def test_a_fault_of_the_graph_that_reads_images_is_found(image_artifact: Any, tmp_path: Path) -> None:
    checkpoint, artifact = image_artifact("idefics3")
    right = diagnose(artifact.folder, source=checkpoint, steps=1)
    assert right.finding is None
    assert {"vision: output", "embedding", "output"} <= set(right.pieces)
    folder = sabotaged(artifact, tmp_path / "wrong", "vision.onnx", "encoder.layers.2.layer_norm2.weight")
    finding = diagnose(folder, source=checkpoint, steps=1).finding
    assert finding is not None
    assert (finding.piece, finding.layer) == ("vision: model.vision_model.encoder.layers.2.layer_norm2", 2)


def test_a_fault_of_the_graph_that_hears_is_found(audio_artifact: Any, tmp_path: Path) -> None:
    checkpoint, artifact = audio_artifact("qwen2_audio")
    right = diagnose(artifact.folder, source=checkpoint, steps=1)
    assert right.finding is None
    assert {"hearing: output", "embedding", "output"} <= set(right.pieces)
    folder = sabotaged(artifact, tmp_path / "wrong", "hearing.onnx", "layers.1.final_layer_norm.weight")
    finding = diagnose(folder, source=checkpoint, steps=1).finding
    assert finding is not None
    assert (finding.piece, finding.layer) == ("hearing: model.audio_tower.layers.1.final_layer_norm", 1)
