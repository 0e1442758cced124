"""Recordings cut and filled up: by hand, with features that are the samples' sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.runtimes.speech.cuts import CUTS, FRAMES, recording_inputs
from tests.exporter.contract.test_recording_settings import SETTINGS

# Windows of 12 samples, 3 frames of 4.
AUDIO = AudioSettings(
    sampling_rate=100, input_name="features", dims=(1, 3), window=12, shortest=5, hop=4, writes="tokens"
)
WHOLE = replace(AUDIO, dims=(1, None), window=None)


def sums(blocks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One band, a frame for each 4 samples."""
    return blocks.reshape(len(blocks), 1, -1, 4).sum(-1)


def test_one_window_is_filled_with_silence() -> None:
    inputs = recording_inputs(np.ones(5, np.float32), AUDIO, SETTINGS, sums)
    assert inputs["features"].tolist() == [[[4, 1, 0]]]
    assert inputs["feature_attention_mask"].tolist() == [[1, 1, 0]]
    assert inputs["feature_attention_mask"].dtype == np.int32


@pytest.mark.parametrize("way", ["each-window", "joined-windows"])
def test_windows_follow_each_other(way: str) -> None:
    settings = replace(SETTINGS, preparation=way)
    inputs = recording_inputs(np.ones(17, np.float32), AUDIO, settings, sums)
    assert inputs["features"].tolist() == [[[4, 4, 4]], [[4, 1, 0]]]
    assert inputs["feature_attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(("samples", "windows"), [(12, 1), (13, 2), (24, 2), (25, 3)])
def test_a_full_window_is_followed_by_none(samples: int, windows: int) -> None:
    inputs = recording_inputs(np.ones(samples, np.float32), AUDIO, replace(SETTINGS, preparation="each-window"), sums)
    assert len(inputs["features"]) == windows


def test_features_of_joined_windows_are_made_of_all_samples_at_once() -> None:
    calls = []
    recording_inputs(
        np.ones(17, np.float32),
        AUDIO,
        replace(SETTINGS, preparation="joined-windows"),
        lambda blocks: calls.append(blocks.shape) or sums(blocks),  # type: ignore[func-returns-value]
    )
    assert calls == [(1, 24)]


def test_frames_are_filled_up_to_a_multiple_with_zeros_that_the_mask_leaves_out() -> None:
    settings = replace(SETTINGS, preparation="whole-with-silence", frames="full", multiple=3)
    audio = replace(WHOLE, shortest=8)
    inputs = recording_inputs(np.ones(16, np.float32), audio, settings, lambda blocks: sums(blocks) + 1)
    assert inputs["features"].tolist() == [[[5, 5, 5, 5, 0, 0]]]
    assert inputs["feature_attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0]]
    # Silence behind a short one is its own.
    short = recording_inputs(np.ones(4, np.float32), audio, settings, sums)
    assert short["features"].tolist() == [[[4, 0, 0]]]
    assert short["feature_attention_mask"].tolist() == [[1, 1, 0]]


def test_whole_recordings_stay_as_long_as_they_are() -> None:
    settings = replace(SETTINGS, preparation="whole", mask=None)
    inputs = recording_inputs(np.ones(20, np.float32), WHOLE, settings, sums)
    assert {name: array.shape for name, array in inputs.items()} == {"features": (1, 1, 5)}
    assert CUTS["whole"](np.ones(2, np.float32), WHOLE).blocks.shape == (1, 5)


def test_frames_are_counted_in_two_ways() -> None:
    assert {name: [count(n, 4) for n in (3, 4, 5)] for name, count in FRAMES.items()} == {
        "begun": [1, 1, 2],
        "full": [0, 1, 1],
    }
