"""An export that is ended while it calibrates goes on where it was, and gives the bytes of an undisturbed one."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jisu
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.resume_folder import ResumeFolder, open_resume_folder
from jisu.exporter.quantization.finished_layers import FinishedLayers, statistics_folder
from jisu.exporter.sources import paged_weights
from tests.support.models import llama_config, write_tiny


class EndedError(Exception):
    """Stands for a signal."""


def result(seed: int) -> Any:
    weight = np.random.default_rng(seed).normal(size=(8, 64)).astype(np.float32)
    return round_to_nearest(
        weight,
        BlockFormat(bits=4, block_size=32, symmetric=False),
        layer="layer",
        channel_scales=np.ones(64, np.float32),
    )


def finished(tmp_path: Path, layers: int = 3) -> FinishedLayers:
    folder = open_resume_folder(tmp_path / "out", {})
    assert folder is not None
    return FinishedLayers(folder, layers)


def test_results_and_states_come_back(tmp_path: Path) -> None:
    kept = finished(tmp_path)
    assert kept.load() == ([], None)
    states = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    kept.save(0, {"a": result(0), "b": replace(result(1), unreached=True)}, states)
    kept.save(1, {"c": result(2)}, states + 1)
    known, entering = kept.load()
    assert [list(layer) for layer in known] == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(known[0]["b"].dequantize(), result(1).dequantize())
    np.testing.assert_array_equal(known[0]["b"].channel_scales, result(1).channel_scales)
    assert known[1]["c"].format == result(2).format
    assert [known[0]["b"].unreached, known[1]["c"].unreached] == [True, False]
    np.testing.assert_array_equal(entering, states + 1)
    assert kept.folder.names == ["entering-00002", "layer-00000", "layer-00001"]


def test_codes_of_more_bits_come_back_beside_their_own(tmp_path: Path) -> None:
    kept = finished(tmp_path, layers=1)
    weight = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    finer = tuple(
        round_to_nearest(weight, BlockFormat(bits=bits, block_size=64, symmetric=True), layer="layer")
        for bits in (5, 6)
    )
    kept.save(0, {"a": replace(result(0), finer=finer), "b": result(1)}, None)
    ((known,), _) = kept.load()
    np.testing.assert_array_equal(known["a"].dequantize(), result(0).dequantize())
    assert [part.format for part in known["a"].finer] == [part.format for part in finer]
    for actual, expected in zip(known["a"].finer, finer, strict=True):
        np.testing.assert_array_equal(actual.dequantize(), expected.dequantize())
    assert known["b"].finer == ()


def test_a_layer_without_what_enters_the_next_is_done_again(tmp_path: Path) -> None:
    kept = finished(tmp_path)
    states = np.zeros((1, 2, 4), np.float32)
    kept.save(0, {"a": result(0)}, states)
    kept.folder.save("layer-00001", dict(np.load(kept.folder.folder / "layer-00000.npz")))
    known, entering = kept.load()
    assert len(known) == 1
    assert entering is not None


def test_all_layers_need_no_states(tmp_path: Path) -> None:
    kept = finished(tmp_path, layers=1)
    kept.save(0, {"a": result(0)}, None)
    known, entering = kept.load()
    assert (len(known), entering) == (1, None)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)


def end_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """End the export when it has kept so many parts."""
    save, saved = ResumeFolder.save, []

    def ending(self: ResumeFolder, name: str, arrays: Any) -> None:
        save(self, name, arrays)
        saved.append(name)
        if len(saved) == count:
            raise EndedError

    monkeypatch.setattr(ResumeFolder, "save", ending)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("count", [1, 3])  # the writing; a layer and what enters the next one, too
def test_an_ended_export_goes_on_to_the_same_bytes(tmp_path: Path, count: int) -> None:
    folder = write_tiny(tmp_path / "source", llama_config())
    expected = jisu.export(folder, tmp_path / "undisturbed", precision="int4")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EndedError):
        end_at(patch, count)
        jisu.export(folder, tmp_path / "out", precision="int4")
    assert (tmp_path / ".out.resume" / "own-writing.npz").exists()
    assert not (tmp_path / "out").exists()
    said: list[str] = []
    stages = jisu.exporter.jobs.stages.Stages()
    stages.say = said.append  # type: ignore[method-assign]
    actual = jisu.export(folder, tmp_path / "out", precision="int4", stages=stages)
    assert [line for line in said if line.startswith("Resumed: ")]
    for file in expected.manifest.files:
        assert (actual.folder / file).read_bytes() == (expected.folder / file).read_bytes(), file
    assert not (tmp_path / ".out.resume").exists()


@pytest.mark.usefixtures("large")
def test_what_was_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jisu.calibration import sequential

    folder = write_tiny(tmp_path / "source", llama_config(layers=4))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EndedError):
        end_at(patch, 5)  # the writing, and two layers with what enters the next one
        jisu.export(folder, tmp_path / "out", precision="int4")
    quantize, done = sequential._quantize_layer, []

    def counting(layer: Any, prefix: str, *arguments: Any, **named: Any) -> Any:
        done.append(prefix)
        return quantize(layer, prefix, *arguments, **named)

    monkeypatch.setattr(sequential, "_quantize_layer", counting)
    jisu.export(folder, tmp_path / "out", precision="int4")
    assert done == ["model.layers.2", "model.layers.3"]


@pytest.mark.usefixtures("large")
def test_other_options_begin_anew(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "source", llama_config())
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EndedError):
        end_at(patch, 3)
        jisu.export(folder, tmp_path / "out", precision="int4")
    said: list[str] = []
    stages = jisu.exporter.jobs.stages.Stages()
    stages.say = said.append  # type: ignore[method-assign]
    jisu.export(folder, tmp_path / "out", precision="int4", block_size=64, stages=stages)
    assert [line for line in said if "the precision or one of its options differs" in line]


def test_a_small_model_keeps_nothing(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "source", llama_config())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumeFolder, "save", lambda *_: pytest.fail("something was kept"))
        jisu.export(folder, tmp_path / "out", precision="int4")


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, InputError), (errno.EACCES, PermissionError)])
def test_only_a_full_disk_is_said_of_the_statistics(number: int, error: type[Exception]) -> None:
    with pytest.raises(error), statistics_folder(None) as folder:
        assert folder.is_dir()
        raise OSError(number, "what the system says")
