from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.reading.windows import text_windows
from tests.support.models import word_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog " * 3


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.mark.parametrize("stride", [0, 3])
def test_windows_share_tokens_and_cover_the_text(stride, tokenizer):
    windows = text_windows(TextCodec(tokenizer.backend_tokenizer), TEXT, window=10, stride=stride)
    right = tokenizer(TEXT, truncation=True, max_length=10, stride=stride, return_overflowing_tokens=True)
    assert [one.ids for one in windows] == right["input_ids"]
    assert len(windows) > 3


def test_a_short_text_is_one_window(tokenizer):
    (only,) = text_windows(TextCodec(tokenizer.backend_tokenizer), "the fox", window=10, stride=3)
    assert only.ids == tokenizer("the fox")["input_ids"]


@pytest.mark.parametrize("stride", [8, -1, True, "2"])
def test_a_stride_that_leaves_nothing_new_is_refused(stride, tokenizer):
    with pytest.raises(InputError, match="room for 8 tokens of the text. Allowed: 0 to 7"):
        text_windows(TextCodec(tokenizer.backend_tokenizer), TEXT, window=10, stride=stride)
