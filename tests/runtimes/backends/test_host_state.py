from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import StateSpec
from jisu.runtimes.backends.host_state import HostState, row_view

KV = StateSpec(past="past.kv", present="present.kv", kind="kv", dtype="float32", dims=("B", 2, "capacity", 3))
RECURRENT = StateSpec(past="past.h", present="present.h", kind="recurrent", dtype="float32", dims=(1, "B", 4))
ENCODED = StateSpec(past="enc", present="enc", kind="encoder", dtype="float32", dims=("B", "source", 2))


def array(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def filled(*specs: StateSpec, batch: int = 2, capacity: int = 5, **options: object) -> HostState:
    """A state whose rows hold their own number everywhere."""
    state = HostState(specs, batch=batch, capacity=capacity, **options)  # type: ignore[arg-type]
    for spec, past in zip(specs, state.past, strict=True):
        for row in range(batch):
            row_view(spec, past, row)[...] = row + 1
    return state


def test_buffers_have_room_for_the_capacity_and_recurrent_tensors_two_places() -> None:
    state = HostState((KV, RECURRENT), batch=2, capacity=5)
    assert [past.shape for past in state.past] == [(2, 2, 5, 3), (1, 2, 4)]
    assert state.present[0] is state.past[0], "keys and values are written where they are read"
    assert state.present[1] is not state.past[1]


def test_only_recurrent_arrays_change_places() -> None:
    state = HostState((KV, RECURRENT), batch=1, capacity=2)
    (kv, old), new = state.past, state.present[1]
    state.swap()
    assert state.past[0] is kv
    assert state.past[1] is new
    assert state.present[1] is old
    assert state.phase == 1
    alone = HostState((KV,), batch=1, capacity=2)
    alone.swap()
    assert alone.phase == 0


def test_a_rewound_row_forgets_its_recurrent_state_alone() -> None:
    state = filled(RECURRENT)
    state.place(array(3, 3))
    state.rewind(array(0, 3))
    assert state.lengths.tolist() == [0, 3]
    assert state.past[0][0].tolist() == [[0] * 4, [2] * 4]
    with pytest.raises(InputError, match="rewound to the middle"):
        state.rewind(array(0, 1))


def test_reordered_rows_are_copies_as_far_as_they_were_written() -> None:
    state = filled(KV, RECURRENT, batch=3)
    state.place(array(1, 2, 2))
    state.past[0][:, :, 2:] = 99  # behind the longest row
    state.reorder(array(2, 0, 0))
    assert state.lengths.tolist() == [2, 1, 1]
    assert state.past[0][:, 0, 0, 0].tolist() == [3, 1, 1]
    assert state.past[1][0, :, 0].tolist() == [3, 1, 1]
    assert (state.past[0][:, :, 2:] == 99).all()
    with pytest.raises(InputError, match="between 0 and 2"):
        state.reorder(array(0, 1, 3))


def test_what_an_encoder_wrote_moves_only_with_another_source() -> None:
    encoded = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)
    state = HostState((ENCODED,), batch=4, capacity=5, encoded={"enc": encoded.copy()}, copies=2)
    state.reorder(array(1, 0, 3, 3))  # within their sources: nothing is copied
    assert np.array_equal(state.past[0], encoded)
    state.reorder(array(2, 1, 2, 3))
    assert np.array_equal(state.past[0], encoded[[2, 1, 2, 3]])


def test_a_released_state_holds_nothing() -> None:
    state = HostState((KV,), batch=1, capacity=2)
    state.release()
    assert (state.past, state.present, state.prepared) == ([], [], {})


def test_a_view_of_a_row_shares_its_memory() -> None:
    tensor = np.zeros((1, 2, 4), np.float32)
    row_view(RECURRENT, tensor, 1)[...] = 7
    assert tensor[0].tolist() == [[0] * 4, [7] * 4]


@pytest.mark.parametrize("swaps", [0, 1])
def test_rows_of_another_state_replace_those_at_their_places(swaps: int) -> None:
    state = filled(KV, RECURRENT, batch=3)
    state.place(array(4, 4, 4))
    other = filled(KV, RECURRENT, batch=2, capacity=3)
    other.place(array(1, 2))
    for _ in range(swaps):
        other.swap()
        other.past[1][...] = [[[1], [2]]]
    state.take_rows(array(2, 0), other)
    assert state.lengths.tolist() == [2, 4, 1]
    assert state.past[0][:, 0, 0, 0].tolist() == [2, 2, 1]
    assert state.past[0][:, 0, 1, 0].tolist() == [2, 2, 1]
    assert state.past[0][:, 0, 2, 0].tolist() == [1, 2, 3], "what lies behind the longest row is not copied"
    assert state.past[1][0, :, 0].tolist() == [2, 2, 1]
