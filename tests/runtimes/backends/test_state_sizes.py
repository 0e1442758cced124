from __future__ import annotations

from jisu.exporter.contract.signature import StateSpec
from jisu.runtimes.backends.state_sizes import batch_axis, state_sizes


def spec(kind, *dims):
    names = ("encoder_state.x",) * 2 if kind == "encoder" else ("past.x", "present.x")
    return StateSpec(past=names[0], present=names[1], kind=kind, dtype="float32", dims=dims)


def test_each_letter_becomes_its_number():
    assert state_sizes(spec("kv", "B", 2, "capacity", 8), batch=3, capacity=16) == (3, 2, 16, 8)
    assert state_sizes(spec("encoder", "B", "source"), batch=3, capacity=16, source=5) == (3, 5)
    assert state_sizes(spec("recurrent", 2, "B", 8), batch=3, capacity=16) == (2, 3, 8)


def test_rows_lie_along_the_first_axis_when_none_is_named():
    assert batch_axis(spec("recurrent", 2, "B", 8)) == 1
    assert state_sizes(spec("recurrent", 1, 8), batch=3, capacity=16) == (3, 8)
