from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.reading.ranking import BLOCK, blocks_of, check_query, ranked


def test_the_best_come_first_and_equals_keep_their_order():
    assert ranked([0.1, 0.9, 0.5, 0.9], top=None) == [(1, 0.9), (3, 0.9), (2, 0.5), (0, 0.1)]
    assert ranked([0.1, 0.9, 0.5, 0.9], top=3) == [(1, 0.9), (3, 0.9), (2, 0.5)]
    assert ranked([0.1], top=9) == [(0, 0.1)]


def test_documents_are_read_some_at_a_time():
    read = []

    def documents():
        for number in range(3 * BLOCK):
            read.append(number)
            yield f"document {number}"

    blocks = blocks_of(documents())
    assert len(next(blocks)) == BLOCK
    assert len(read) == BLOCK
    assert [len(block) for block in blocks] == [BLOCK, BLOCK]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a", None], "Document 1 is not a text"),
        ([*["a"] * BLOCK, "\n"], f"Document {BLOCK} is empty"),
        ([], "There is no document"),
        ("a", "not a list"),
    ],
)
def test_what_is_no_document_is_refused(documents, message):
    with pytest.raises(InputError, match=message):
        list(blocks_of(documents))


def test_a_query_is_a_text():
    assert check_query("a") == "a"
    for query, message in [(3, "not a text"), ("", "empty")]:
        with pytest.raises(InputError, match=message):
            check_query(query)
    with pytest.raises(InputError, match="top True"):
        ranked([1.0], top=True)
