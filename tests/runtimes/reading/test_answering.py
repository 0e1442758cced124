from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.reading.answering import best_answers, encode_windows
from tests.support.models import word_tokenizer

CONTEXT = "abcd"


def window(sequence=(None, 0, None, 1, 1, 1, 1, None)):
    """[CLS] q [SEP] a b c d [SEP], each letter a word."""
    offsets = [(0, 0), (0, 1), (0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (0, 0)]
    return SimpleNamespace(
        sequence_ids=list(sequence), offsets=offsets, token_to_word=lambda token: None, word_to_chars=None
    )


def ends(begin, end):
    """Logits that say for certain where an answer begins and ends."""
    numbers = np.full((8, 2), -20.0, np.float32)
    numbers[begin, 0] = numbers[end, 1] = 20.0
    return numbers


def spans(numbers, **options):
    options = {"top_k": 1, "longest": 9, "may_be_none": False, **options}
    return [(one.text, round(one.score, 3)) for one in best_answers([window()], [numbers], CONTEXT, **options)]


def test_a_span_goes_from_its_beginning_to_its_end():
    assert spans(ends(4, 5)) == [("bc", 1.0)]


def test_an_answer_does_not_end_before_it_begins_nor_is_it_too_long():
    assert spans(ends(6, 3)) != [("", 1.0)]
    assert spans(ends(6, 3))[0][1] == 0.0
    assert spans(ends(3, 6), longest=4) == [("abcd", 1.0)]
    assert spans(ends(3, 6), longest=3)[0][1] == 0.0


def test_the_question_does_not_answer_itself():
    numbers = ends(1, 1)
    numbers[5] = 3.0
    assert spans(numbers) == [("c", 1.0)]  # neither is it among those that share the probability


def test_no_answer_is_one_where_it_may_be():
    numbers = ends(0, 0)
    numbers[5] = 17.0
    assert spans(numbers, may_be_none=True, top_k=2) == [("", 0.907), ("c", 0.002)]
    assert spans(numbers) == [("c", 0.002)]


def test_one_span_of_two_windows_counts_once():
    answers = best_answers(
        [window(), window()], [ends(4, 5), np.zeros((8, 2), np.float32)], CONTEXT, top_k=99, longest=9, may_be_none=True
    )
    assert len({(one.start, one.end) for one in answers}) == len(answers) == 11  # 10 spans of 4 letters, and none
    assert answers[0].text == "bc"


def test_windows_overlap_and_hold_the_question():
    codec = TextCodec(word_tokenizer().backend_tokenizer)
    windows = encode_windows(codec, "dog", "fox " * 30, window=12, stride=3)
    pieces = [
        [place for place, one in zip(made.offsets, made.sequence_ids, strict=True) if one == 1] for made in windows
    ]
    assert all(len(made.ids) <= 12 for made in windows)
    assert [piece[:3] for piece in pieces[1:]] == [piece[-3:] for piece in pieces[:-1]]
    assert pieces[-1][-1] == (116, 119)
    assert len(encode_windows(codec, "dog", "fox", window=12, stride=3)) == 1
    with pytest.raises(
        InputError, match="6 tokens of the question in windows of 12 that share 3. Allowed: .* at most 5"
    ):
        encode_windows(codec, "dog " * 6, "fox", window=12, stride=3)


def test_a_context_without_tokens_is_refused():
    with pytest.raises(InputError, match=r"without tokens. Received: '\\x00\\u200b'"):
        encode_windows(TextCodec(word_tokenizer().backend_tokenizer), "dog", "\0\u200b", window=12, stride=3)


def test_windows_are_those_of_transformers():
    question, context = "What does the dog mind?", "The quick brown fox jumps over the lazy dog. " * 9
    made = word_tokenizer()(
        question, context, truncation="only_second", max_length=40, stride=9, return_overflowing_tokens=True
    )
    windows = encode_windows(TextCodec(word_tokenizer().backend_tokenizer), question, context, window=40, stride=9)
    assert len(windows) > 2
    assert [one.ids for one in windows] == made["input_ids"]
    assert [one.type_ids for one in windows] == made["token_type_ids"]
