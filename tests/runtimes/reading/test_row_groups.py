"""Which rows go into one call."""

from __future__ import annotations

from jisu.runtimes.reading.row_groups import row_groups


def test_every_row_is_in_one_group_with_rows_of_its_length():
    lengths = [3, 100, 4, 90, 4, 4000, 3]
    groups = list(row_groups(lengths, equal=False))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert groups[0] == [5]
    assert [1, 3] in groups
    assert all(min(lengths[one] for one in group) >= 0.75 * max(lengths[one] for one in group) for group in groups)


def test_rows_of_one_length_only_where_there_is_no_mask():
    assert {tuple(group) for group in row_groups([2, 3, 2, 3], equal=True)} == {(1, 3), (0, 2)}


def test_a_call_has_a_limit_of_tokens():
    assert [len(group) for group in row_groups([10] * 10, equal=True, tokens=30)] == [3, 3, 3, 1]
