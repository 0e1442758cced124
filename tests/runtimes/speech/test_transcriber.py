"""The windows of long recordings, with a backend that says what it is told; the rest runs in the scenarios."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.runtimes.speech import transcriber
from jisu.runtimes.speech.transcriber import Transcriber

HOP, RATE = 10, 1000


class CountingBackend:
    """Its features are the first sample of each frame, so that what was heard can be read off."""

    name = "counting"
    vocab_size = 50

    def __init__(self) -> None:
        self.calls: list[int] = []

    def features(self, samples: Any) -> Any:
        self.calls.append(len(samples))
        return np.asarray(samples[: len(samples) // HOP * HOP : HOP], np.float32)[None, None]


def windowed(backend: Any, **changes: Any) -> Transcriber:
    own = object.__new__(Transcriber)
    known: dict[str, Any] = {
        "sampling_rate": RATE,
        "input_name": "input_features",
        "dims": (1, 100),
        "window": 1000,
        "shortest": 100,
        "hop": HOP,
        "writes": "tokens",
        "seconds_per_time": 0.02,
    }
    own.settings = AudioSettings(**{**known, **changes})
    own._backend, own._turns = backend, None
    return own


def heard(own: Transcriber, samples: Any, moves: list[float]) -> list[tuple[float, int, float]]:
    """(first sample heard, frames, seconds) of each window, when each answer moves on by so many steps."""
    windows, windows_heard, move = own._windows(samples), [], None
    for next_move in [*moves, None]:
        try:
            piece, at, *_ = windows.send(move)
        except StopIteration:
            break
        windows_heard.append((float(piece[0, 0, 0]), piece.shape[-1], at))
        move = next_move
    return windows_heard


def test_a_window_begins_where_the_last_segment_ended() -> None:
    samples = np.arange(2600, dtype=np.float32)
    windows_heard = heard(windowed(CountingBackend()), samples, [20, 50, 50])
    assert windows_heard == [(0.0, 100, 0.0), (400.0, 100, 0.4), (1400.0, 100, 1.4), (2400.0, 100, 2.4)]


def test_the_last_window_is_filled_up() -> None:
    own = windowed(CountingBackend())
    windows = own._windows(np.ones(1300, np.float32))
    windows.send(None)
    piece, at, steps, whole = windows.send(50)
    assert piece.shape[-1] == 100 and piece[0, 0].sum() == 30 and (at, steps, whole) == (1.0, 15, 15.0)


def test_features_made_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcriber, "_BLOCK_SECONDS", 2)
    backend = CountingBackend()
    samples = np.arange(7130, dtype=np.float32)
    features = windowed(backend)._features(samples)
    assert (features == CountingBackend().features(samples)).all() and len(backend.calls) == 4


def test_a_recording_of_any_length_is_read_in_pieces() -> None:
    own = windowed(CountingBackend(), window=None, dims=(1, None))
    assert [at for _, _, at in heard(own, np.zeros(65_000, np.float32), [1, 1, 1, 1])] == [0.0, 30.0, 60.0]
