"""Which rows of features tokens read, through chunks, batches and other orders of rows."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImagePrompt
from jisu.runtimes.backends.image_rows import ImageRows


def prompt(
    index: list[int], features: int, *, first: float = 0.0, shift: int = 0, types: list[int] | None = None
) -> ImagePrompt:
    rows = np.arange(features, dtype=np.float32)[:, None] + np.float32(first)
    shifts = np.full((3, len(index)), shift) if shift else None
    return ImagePrompt(
        token_ids=[0] * len(index),
        features=np.repeat(rows, 2, axis=1),
        index=np.array(index, np.int64),
        shifts=shifts,
        shift_after=shift,
        types=None if types is None else np.array(types, np.int64),
    )


def test_rows_of_a_batch_read_their_own_features() -> None:
    rows = ImageRows([prompt([0, 1, 2], 2), prompt([1, 0], 1, first=10), prompt([0], 0)])
    index = rows.index_at(np.array([0, 0, 0]), 3)
    assert index.tolist() == [[0, 1, 2], [3, 0, 0], [0, 0, 0]]
    assert rows.features[:, 0].tolist() == [0.0, 1.0, 10.0]


def test_a_chunk_begins_at_each_rows_past_and_ends_behind_the_prompt() -> None:
    rows = ImageRows([prompt([0, 1, 2], 2), prompt([1, 0], 1)])
    assert rows.index_at(np.array([1, 2]), 2).tolist() == [[1, 2], [0, 0]]


def test_beams_share_features_and_may_change_places() -> None:
    one = prompt([1, 0], 1)
    rows = ImageRows([one, one, prompt([0, 1], 1, first=5)])
    assert len(rows.features) == 2
    rows.reorder(np.array([2, 0, 0]))
    assert rows.index_at(np.zeros(3, np.int64), 2).tolist() == [[0, 2], [1, 0], [1, 0]]
    assert rows.row(0).index_at(np.zeros(1, np.int64), 2).tolist() == [[0, 1]]


def test_shifts_go_on_behind_the_prompt() -> None:
    rows = ImageRows([prompt([0, 1], 1, shift=-3), prompt([0], 0)])
    assert rows.shifted
    shifts = rows.shifts_at(np.array([1, 0]), 3)
    assert shifts[0].tolist() == [[-3, -3, -3], [0, 0, 0]]


def test_no_image_at_all_leaves_one_row_that_nothing_reads() -> None:
    assert ImageRows([prompt([0, 0], 0)]).features.shape == (1, 2)


def test_types_go_on_with_zeros_behind_a_prompt() -> None:
    rows = ImageRows([prompt([0, 1, 2], 2, types=[0, 1, 1]), prompt([0], 0)])
    assert rows.types_of(5).tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    rows.reorder(np.array([1, 0]))
    assert rows.types_of(2).tolist() == [[0, 0], [0, 1]]


def test_a_call_ends_where_no_token_sees_further() -> None:
    rows = ImageRows([prompt([0, 1, 2, 0], 2, types=[0, 1, 1, 0]), prompt([0], 0)])
    for stop in (1, 3, 4, 9):
        rows.check_whole(np.array([0, 0]), np.array([stop, 1]))
    with pytest.raises(InputError, match="ends within tokens that see each other"):
        rows.check_whole(np.array([0, 0]), np.array([2, 1]))
    assert ImageRows([prompt([1], 1, types=[-1])]).row(0).types_of(1).tolist() == [[-1]]
