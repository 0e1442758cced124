"""Lower case before tokens."""

from __future__ import annotations

from jisu.exporter.sources.embedding.lower_texts import lower_texts
from tests.support.models import tiny_tokenizer


def test_upper_case_gives_the_tokens_of_lower_case():
    tokenizer = tiny_tokenizer()
    assert tokenizer("THE DOG")["input_ids"] != tokenizer("the dog")["input_ids"]
    lower_texts(tokenizer)
    assert tokenizer("THE DOG")["input_ids"] == tokenizer("the dog")["input_ids"]
