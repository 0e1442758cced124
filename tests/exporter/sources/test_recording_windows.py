"""Windows that a network attends in, heard from what it says of recordings of several lengths."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.recording_windows import RecordingWindows, given_windows, listen_for_windows

# Rows of a second of sound.
RATE = 10


class Network(torch.nn.Module):
    """Attends in windows of so many rows; of a recording of so many rows in all."""

    def __init__(self, width: Callable[[int], int] | None) -> None:
        super().__init__()
        self.width = width

    def hear(self, seconds: float) -> Any:
        rows = int(seconds * RATE)
        return None if self.width is None else get_audio_cu_seqlens(rows, self.width(rows))


def get_audio_cu_seqlens(rows: int, width: int) -> torch.Tensor:
    return torch.tensor([*range(0, rows, width), rows])


def test_windows_are_those_of_the_model() -> None:
    network = Network(lambda rows: 26)
    assert listen_for_windows(network, network.hear) == RecordingWindows(rows=26, seconds=8.0)


def test_a_network_that_asks_for_none_has_none() -> None:
    network = Network(None)
    assert listen_for_windows(network, network.hear) is None


@pytest.mark.parametrize("width", [lambda rows: max(1, rows // 4), lambda rows: 1000])
def test_windows_of_other_lengths_and_too_long_ones_are_refused(width: Callable[[int], int]) -> None:
    network = Network(width)
    with pytest.raises(InputError, match="hears in windows that are not known here"):
        listen_for_windows(network, network.hear)


def test_windows_that_are_given_take_the_place_of_the_models() -> None:
    network, own = Network(lambda rows: 26), get_audio_cu_seqlens
    with given_windows(network, torch.tensor([0, 5])):
        assert np.asarray(network.hear(1)).tolist() == [0, 5]
    assert getattr(sys.modules[__name__], "get_audio_cu_seqlens") is own  # noqa: B009
