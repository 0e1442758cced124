from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.quantization.prompt_tokens import (
    first_token,
    framed,
    inner_length,
    known_tokens,
    prompt_tokens,
    special_tokens,
    tokens_of,
    unknown_share,
)
from jisu.exporter.sources import load_source
from tests.support.models import BOS, EOS, PAD
from tests.support.word_model import word_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


def test_questions_stand_in_the_chat_template_and_openings_do_not(source):
    texts = [source.tokenizer.decode(ids) for ids in prompt_tokens(source)]
    requests = [text for text in texts if text.startswith("<s>user\n")]
    assert len(requests) > 60
    assert all(text.endswith("<s>assistant\n") for text in requests)
    assert any(text.startswith("#include <map>") for text in texts)


def test_without_a_template_questions_are_texts_like_others(source, monkeypatch):
    monkeypatch.setattr(source.tokenizer, "chat_template", None)
    texts = [source.tokenizer.decode(ids) for ids in prompt_tokens(source)]
    assert any(text.startswith("Why does the moon") for text in texts)


def test_a_prompt_of_unknown_words_is_no_prompt():
    assert prompt_tokens(word_source()) == []


def test_ids_that_the_model_has_no_row_for_are_left_out(source):
    assert max(tokens_of(source, "The quick brown fox jumps over the lazy dog")) >= 300
    few = replace(source, model=replace(source.model, vocab_size=300))
    assert max(tokens_of(few, "The quick brown fox jumps over the lazy dog")) < 300
    assert known_tokens(few) == 300


def test_unknown_tokens_are_counted():
    source = word_source()
    assert unknown_share(source, tokens_of(source, "red crimson green azure")) == 0.5


def test_only_a_classifiers_windows_have_a_frame(source):
    assert inner_length(source, 16) == 16
    windows = np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(framed(source, windows), windows)


def test_special_tokens_are_the_tokenizers_or_those_that_the_model_names(source):
    assert special_tokens(source) == [BOS, EOS, PAD]
    assert special_tokens(replace(source, tokenizer=None)) == [BOS, EOS, PAD]
    assert first_token(source) == BOS
    assert first_token(replace(source, model=replace(source.model, bos=None))) == EOS
    assert first_token(replace(source, model=replace(source.model, bos=None, eos=()))) is None
