from __future__ import annotations

import pytest

from jisu.calibration.text.mixture import SHARES, interleave_parts, part_weights, share_windows, take_turns

MANY = dict.fromkeys(SHARES, 1000)


def test_the_shares_are_all_there_is() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def test_windows_are_shared_as_the_shares_say() -> None:
    assert share_windows(64, {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 99, "b": 99, "c": 99}) == {
        "a": 32,
        "b": 16,
        "c": 16,
    }
    assert share_windows(16, SHARES, MANY)["own writing"] == 10


def test_what_a_part_lacks_the_others_have_in_proportion() -> None:
    assert share_windows(8, {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 2, "b": 99, "c": 99}) == {"a": 2, "b": 3, "c": 3}
    assert share_windows(8, {"a": 0.5, "b": 0.5}, {"a": 99}) == {"a": 8}


def test_there_are_no_more_windows_than_the_parts_have() -> None:
    assert share_windows(8, {"a": 0.5, "b": 0.5}, {"a": 2, "b": 1}) == {"a": 2, "b": 1}
    assert share_windows(8, {"a": 0.5}, {}) == {}


def test_a_part_without_a_share_has_no_window() -> None:
    assert share_windows(4, {"a": 0.0, "b": 1.0}, {"a": 9, "b": 9}) == {"b": 4}


def test_every_piece_of_the_order_has_the_parts_in_proportion() -> None:
    order = interleave_parts({"a": 16, "b": 8, "c": 8})
    assert order.count("a") == 16
    for start in range(0, 32, 4):
        assert sorted(order[start : start + 4]) == ["a", "a", "b", "c"]


def test_parts_take_turns_and_random_tokens_come_last() -> None:
    assert take_turns(["random tokens", "a", "a", "b", "a", "b"]) == [1, 3, 2, 5, 4, 0]
    assert take_turns([]) == []


def test_every_part_weighs_alike() -> None:
    assert part_weights(["a", "a", "a", "b"]) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert part_weights([]) == []
