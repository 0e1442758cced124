from __future__ import annotations

import gc

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.row_lengths import (
    RowLengths,
    States,
    check_call,
    check_reorder,
    check_rewind,
    check_size,
    check_taken_rows,
    padded_sources,
)


def array(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_lengths_count_what_was_written_and_are_a_copy() -> None:
    rows = RowLengths(batch=2, capacity=8)
    rows.advance(array(3, 5))
    rows.lengths[0] = 7
    assert rows.lengths.tolist() == [3, 5]
    assert rows.capacity == 8


@pytest.mark.parametrize("lengths", [[9, 0], [-1, 0], [1]])
def test_rows_cannot_be_longer_than_the_capacity(lengths: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 8"):
        RowLengths(batch=2, capacity=8).place(array(*lengths))


def test_rows_of_one_source_change_places_without_their_source() -> None:
    rows = RowLengths(batch=4, capacity=8, copies=2)  # two sources, two rows each
    rows.place(array(1, 2, 3, 4))
    assert rows.follow(array(1, 0, 3, 2))
    assert rows.lengths.tolist() == [2, 1, 4, 3]
    assert not rows.follow(array(2, 1, 2, 3)), "row 0 is about the second source now"
    assert rows.follow(array(2, 1, 0, 3)), "sources are those after the last change of places"


def test_closing_releases_the_states_that_somebody_still_holds() -> None:
    class Held(RowLengths):
        released = 0

        def release(self) -> None:
            Held.released += 1

    states = States()
    kept = states.add(Held(batch=1, capacity=1))
    states.add(Held(batch=1, capacity=1))
    gc.collect()
    states.release()
    assert (Held.released, kept.capacity) == (1, 1)


@pytest.mark.parametrize(("batch", "capacity"), [(0, 4), (1, 0)])
def test_a_state_without_rows_or_room_is_refused(batch: int, capacity: int) -> None:
    with pytest.raises(InputError, match=f"batch {batch}, capacity {capacity}"):
        check_size(batch, capacity)


def test_sources_are_padded_on_the_right_and_masked() -> None:
    ids, mask = padded_sources([[5, 6, 7], [8]], padding=1, vocab_size=10, longest=3)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "There is no source"),
        ([[1], []], "is empty"),
        ([[1, 2, 3, 4]], "too long for this model to read.*4 tokens.*1 to 3 tokens"),
        ([[1, 10]], "not in the vocabulary"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(sources: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        padded_sources(sources, padding=0, vocab_size=10, longest=3)


def call(ids: list[list[int]], new: list[int] | None, *, lengths: tuple[int, ...] = (2, 0)) -> list[int]:
    token_ids = np.array(ids, np.int64).reshape(len(ids), -1)
    new_lengths = None if new is None else array(*new)
    return check_call(token_ids, new_lengths, lengths=array(*lengths), capacity=4, vocab_size=10).tolist()


def test_every_row_takes_all_tokens_unless_it_says_otherwise() -> None:
    assert call([[1, 2], [3, 4]], None) == [2, 2]
    assert call([[1, 2], [3, 0]], [2, 1]) == [2, 1]


@pytest.mark.parametrize(
    ("ids", "new", "message"),
    [
        ([[1]], None, r"\[2, T\]"),
        ([[], []], None, r"\[2, T\]"),
        ([[1, 2], [3, 4]], [0, 1], "between 1 and 2"),
        ([[1, 2], [3, 4]], [1, 3], "between 1 and 2"),
        ([[1, 2], [3, 4]], [1], "between 1 and 2"),
        ([[1], [10]], None, "not in the vocabulary"),
        ([[1, 2, 3], [1, 2, 3]], None, "5 tokens in one row.*at most 4"),
    ],
)
def test_a_call_that_does_not_fit_the_state_is_refused(
    ids: list[list[int]], new: list[int] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(ids, new)


def test_padding_needs_no_room() -> None:
    assert call([[1, 2, 3], [1, 2, 3]], [2, 3]) == [2, 3]


def test_a_recurrent_state_goes_back_to_the_beginning_or_not_at_all() -> None:
    check_rewind(array(1, 0), current=array(3, 2), recurrent=False)
    check_rewind(array(3, 0), current=array(3, 2), recurrent=True)
    with pytest.raises(InputError, match="rewound to the middle"):
        check_rewind(array(1, 0), current=array(3, 2), recurrent=True)
    with pytest.raises(InputError, match="from 0 to"):
        check_rewind(array(4, 0), current=array(3, 2), recurrent=False)


@pytest.mark.parametrize("rows", [[0, 2], [-1, 0], [0]])
def test_rows_are_reordered_to_existing_ones(rows: list[int]) -> None:
    check_reorder(array(1, 1), batch=2)
    with pytest.raises(InputError, match="between 0 and 1"):
        check_reorder(array(*rows), batch=2)


@pytest.mark.parametrize("rows", [[0, 2], [-1, 0], [0], [1, 1]])
def test_rows_of_another_state_take_one_place_each(rows: list[int]) -> None:
    check_taken_rows(array(1, 0), lengths=array(2, 3), batch=2, capacity=3)
    with pytest.raises(InputError, match="between 0 and 1"):
        check_taken_rows(array(*rows), lengths=array(2, 3), batch=2, capacity=3)
    with pytest.raises(InputError, match="no room for these rows"):
        check_taken_rows(array(1, 0), lengths=array(2, 3), batch=2, capacity=2)
