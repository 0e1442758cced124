from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.answer_tokens import answer_tokens
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.options import RerankOptions
from tests.support.models import TINY_VOCAB, tiny_tokenizer, word_tokenizer

HERE = Path("here")


def by_text(yes, no=None, prompt="{query}{document}"):
    return Reranking(folder=HERE, options=RerankOptions(prompt=prompt, yes=yes, no=no))


def test_tokens_are_found_by_their_text_and_by_their_ids():
    tokenizer = tiny_tokenizer()
    y, n, space = (tokenizer.convert_tokens_to_ids(text) for text in ("y", "n", "Ġ"))
    assert answer_tokens(by_text("y", "n"), tokenizer, rows=TINY_VOCAB) == (y, n)
    assert answer_tokens(by_text("y"), tokenizer, rows=TINY_VOCAB) == (y,)
    assert answer_tokens(by_text(" "), tokenizer, rows=TINY_VOCAB) == (space,)  # not as the vocabulary spells it
    assert answer_tokens(Reranking(folder=HERE, yes=5, no=7), tokenizer, rows=TINY_VOCAB) == (5, 7)
    # A user's own tokens take the place of both of a named prompt's.
    assert answer_tokens(by_text("y", prompt="judge"), tokenizer, rows=TINY_VOCAB) == (y,)
    assert answer_tokens(by_text(None, prompt="relevance"), tokenizer, rows=TINY_VOCAB) == tuple(
        tokenizer.convert_tokens_to_ids(text) for text in "10"
    )


@pytest.mark.parametrize(
    ("reranking", "tokenizer", "message"),
    [
        (by_text(None, prompt="judge"), tiny_tokenizer, "'yes' is not one token of here. Received: 2 tokens"),
        (by_text("🚀"), word_tokenizer, "is not one token.*does not know"),
        (by_text(""), tiny_tokenizer, "'' is not one token of here. Received: 0 tokens"),
        (by_text("y", "y"), tiny_tokenizer, "cannot be told apart or have no row"),
        (Reranking(folder=HERE, yes=4000), tiny_tokenizer, "ids 4000. Allowed: different ids below 384"),
    ],
)
def test_what_is_not_one_token_is_refused(reranking, tokenizer, message):
    with pytest.raises(InputError, match=message):
        answer_tokens(reranking, tokenizer(), rows=TINY_VOCAB)
