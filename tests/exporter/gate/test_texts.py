from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.domains import BUILT_IN
from jisu.exporter.gate.texts import DOMAIN_WINDOWS, gate_texts
from tests.support.models import TINY_VOCAB, tiny_tokenizer


def test_lengths_are_those_that_matter():
    texts = gate_texts(tiny_tokenizer(), TINY_VOCAB)
    assert [len(row) for row in texts.alone] == [1, 2, 37, 300]
    assert len({len(row) for row in texts.rows}) == 3
    assert [domain.name for domain in texts.judged.domains] == list(BUILT_IN)
    assert {len(domain.windows) for domain in texts.judged.domains} == {DOMAIN_WINDOWS}
    assert {len(row) for row in texts.windows} == {6, 12, 24, 48, 96, 128}


def test_a_short_model_is_not_given_more_than_it_holds():
    texts = gate_texts(None, 100, 16)
    assert max(len(row) for row in (*texts.alone, *texts.rows, *texts.windows)) == 16


def test_the_longest_text_fills_the_range_where_that_is_affordable():
    texts = gate_texts(tiny_tokenizer(), TINY_VOCAB, 512, far=512)
    assert [len(row) for row in texts.alone] == [1, 2, 37, 300, 512]
    assert len(gate_texts(tiny_tokenizer(), TINY_VOCAB, 200, far=200).alone[-1]) == 200


def test_windows_come_from_the_text_of_the_user():
    tokenizer = tiny_tokenizer()
    texts = gate_texts(tokenizer, TINY_VOCAB, evaluation="only this sentence. " * 40)
    assert all(set(tokenizer.decode(row)) <= set("only this sentence. ") for row in texts.windows)
    assert "a text of the user's" in texts.text


def test_an_empty_text_is_refused():
    with pytest.raises(InputError, match="too short to be judged on"):
        gate_texts(tiny_tokenizer(), TINY_VOCAB, evaluation="  \n ")
