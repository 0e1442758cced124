from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import TextError
from jisu.calibration.text.windows import draw_windows, random_windows


def test_windows_are_whole_cuts_in_the_order_of_the_text() -> None:
    windows = draw_windows(np.arange(23), count=3, length=5)

    starts = windows.ids[:, 0]
    assert (windows.ids - starts[:, None] == np.arange(5)).all()
    assert (starts % 5 == 0).all()
    assert (np.diff(starts) > 0).all()


def test_the_seed_decides_and_the_hash_tells() -> None:
    ids = np.arange(1000)
    one, same, other = (draw_windows(ids, count=5, length=10, seed=seed) for seed in (1, 1, 2))

    assert one.sha256 == same.sha256
    assert one.sha256 != other.sha256
    assert len(one.as_list()) == 5


def test_the_hash_tells_the_shape() -> None:
    assert draw_windows(range(12), count=3, length=4).sha256 != draw_windows(range(12), count=4, length=3).sha256


def test_a_short_text_gives_what_it_has() -> None:
    assert draw_windows(np.arange(23), count=64, length=5).ids.shape == (4, 5)


def test_a_text_shorter_than_one_window_is_refused() -> None:
    with pytest.raises(TextError, match="Received: 4 tokens. Allowed: at least 5 tokens"):
        draw_windows(np.arange(4), count=1, length=5)


@pytest.mark.parametrize(("count", "length"), [(0, 5), (1, 0)])
def test_windows_without_size_are_refused(count: int, length: int) -> None:
    with pytest.raises(TextError, match="have no size"):
        draw_windows(np.arange(4), count=count, length=length)


def test_random_windows_begin_with_the_given_tokens_by_turns() -> None:
    windows = random_windows(100, count=5, length=200, first=[7, 3], seed=1)

    assert windows.ids[:, 0].tolist() == [7, 3, 7, 3, 7]
    assert windows.ids.shape == (5, 200)
    assert 0 <= windows.ids.min() < 5
    assert 95 <= windows.ids.max() < 100
    assert windows.sha256 == random_windows(100, count=5, length=200, first=[7, 3], seed=1).sha256
    assert windows.sha256 != random_windows(100, count=5, length=200, first=[7, 3], seed=2).sha256
