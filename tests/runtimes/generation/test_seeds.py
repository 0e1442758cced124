from __future__ import annotations

from jisu.runtimes.generation.seeds import row_random, row_seeds


def test_rows_share_the_seed_unless_they_read_the_same() -> None:
    first, second, third, fourth = row_seeds(5, [[1, 2], [3], [1, 2], [1, 2]])
    assert (first, second) == (5, 5)
    assert len({first, third, fourth}) == 3


def test_without_a_seed_there_is_none() -> None:
    assert row_seeds(None, [[1], [1]]) == [None, None]
    assert row_random(None, [1]).random() != row_random(None, [1]).random()


def test_seed_and_tokens_decide_the_numbers() -> None:
    assert row_random(5, [1, 2]).random() == row_random(5, (1, 2)).random()
    assert row_random(5, [1, 2]).random() != row_random(5, [2, 1]).random()
    assert row_random(5, [1, 2]).random() != row_random(6, [1, 2]).random()
