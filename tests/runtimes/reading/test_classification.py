from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.reading.classification import classify_rows, probabilities_of
from jisu.runtimes.reading.texts import check_texts


class Counting:
    """Its logits are (tokens, 0), and it keeps the lengths of each call."""

    name, columns, per_token, vocab_size, max_positions = "counting", 2, False, 100, 50

    def __init__(self, *, takes_unequal: bool) -> None:
        self.takes_unequal = takes_unequal
        self.calls: list[list[int]] = []

    def outputs(self, rows, types=None):
        self.calls.append([len(row) for row in rows])
        return np.array([[np.log(len(row)), 0.0] for row in rows], np.float32)

    def close(self) -> None:
        pass


LENGTHS = [3, 40, 5, 3, 38, 1, 5]


@pytest.mark.parametrize("takes_unequal", [True, False])
def test_every_row_gets_its_own_answer(takes_unequal):
    backend = Counting(takes_unequal=takes_unequal)
    actual = classify_rows(backend, [[1] * length for length in LENGTHS], ("many", "few"))
    assert [one.tokens for one in actual] == LENGTHS
    for one, length in zip(actual, LENGTHS, strict=True):
        assert one.probabilities["many"] == pytest.approx(length / (length + 1), abs=1e-6)
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.label == "many"
        assert one.probability == max(one.probabilities.values())


def test_rows_of_one_call_are_of_about_one_length():
    backend = Counting(takes_unequal=True)
    classify_rows(backend, [[1] * length for length in LENGTHS], ("many", "few"))
    assert backend.calls == [[40, 38], [5, 5], [3, 3], [1]]


def test_without_a_mask_they_are_of_exactly_one():
    backend = Counting(takes_unequal=False)
    classify_rows(backend, [[1] * length for length in LENGTHS], ("many", "few"))
    assert all(len(set(call)) == 1 for call in backend.calls)


def test_a_call_is_not_larger_than_memory_should_be():
    backend = Counting(takes_unequal=True)
    classify_rows(backend, [[1]] * 100, ("many", "few"))
    assert max(map(len, backend.calls)) == 32


def test_probabilities_of_large_logits_are_finite():
    actual = probabilities_of(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(actual, [[0.5, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("texts", "message"),
    [("", "The text is empty"), (["good", " \n"], "Text 2 of 2 is empty"), (5, "not a text"), ([["a"]], "not a text")],
)
def test_what_is_no_text_is_refused(texts, message):
    with pytest.raises(InputError, match=message):
        check_texts(texts)
