from __future__ import annotations

import itertools

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.reading.pairs import encode_texts, shortened_lengths
from tests.support.models import word_tokenizer


def codec():
    return TextCodec(word_tokenizer().backend_tokenizer)


@pytest.mark.parametrize("limit", [3, 4, 5, 9, 12])
def test_pairs_are_shortened_as_transformers_does_it(limit):
    tokenizer = word_tokenizer()
    for first, second in itertools.product(range(1, 9), repeat=2):
        pair = ("dog " * first, "fox " * second)
        expected = tokenizer(*pair, truncation=True, max_length=limit)
        made = encode_texts(codec(), [pair], limit=limit, truncate=True)
        assert (made.rows, made.types) == ([expected["input_ids"]], [expected["token_type_ids"]])


def test_nothing_is_shortened_that_fits():
    assert shortened_lengths(4, 6, 10) == (4, 6)
    assert shortened_lengths(4, 7, 10) == (4, 6)
    assert shortened_lengths(9, 2, 10) == (8, 2)
    assert shortened_lengths(9, 8, 10) == (5, 5)
    assert shortened_lengths(8, 9, 11) == (5, 6)


def test_texts_and_pairs_may_be_mixed():
    made = encode_texts(codec(), ["dog", ("dog", "fox")], limit=None, truncate=False)
    assert made.types == [[0, 0, 0], [0, 0, 0, 1, 1]]


def test_a_pair_that_is_too_long_is_refused():
    with pytest.raises(InputError, match="9 and 2 tokens in pair 7. Allowed: at most 5 in both"):
        encode_texts(codec(), [("dog " * 9, "fox fox")], limit=8, truncate=False, first=7)
    with pytest.raises(InputError, match="not Unicode"):
        encode_texts(codec(), [("dog", "\ud800")], limit=8, truncate=False)
