from __future__ import annotations

import pytest

from examples.text_rnn.preprocessing import Preprocessing, is_punctuation
from jisu.exporter.contract.errors import InputError

ENGLISH = "Don’t put the “Old Book” on it, e.g. today."
CHINESE = "今天天气很好，我们去公园散步。"


def test_english_words():
    words = Preprocessing(language="en").words(ENGLISH)
    assert words == ["do", "n't", "put", "the", "``", "old", "book", "''", "on", "it", ",", "e.g.", "today", "."]


def test_chinese_words():
    expected = ["今天天气", "很", "好", "，", "我们", "去", "公园", "散步", "。"]
    assert Preprocessing(language="zh").words(CHINESE) == expected
    assert Preprocessing(language="zh").prepare(CHINESE) == " ".join(expected)


def test_each_step_can_be_switched():
    assert "Old" in Preprocessing(language="en", lower=False).words(ENGLISH)
    assert not any(map(is_punctuation, Preprocessing(language="en", punctuation="drop").words(ENGLISH)))
    assert "the" not in Preprocessing(language="en", remove_stop_words=True).words(ENGLISH)
    assert "我们" not in Preprocessing(language="zh", remove_stop_words=True).words(CHINESE)


@pytest.mark.parametrize("changes", [{"language": "fr"}, {"language": "en", "punctuation": "maybe"}])
def test_unknown_steps_are_refused(changes):
    with pytest.raises(InputError):
        Preprocessing(**changes)


def test_steps_come_back_from_their_dictionary():
    steps = Preprocessing(language="zh", lower=False, remove_stop_words=True, punctuation="drop")
    assert Preprocessing.from_dict(steps.to_dict()) == steps
    with pytest.raises(InputError, match="stemming"):
        Preprocessing.from_dict({**steps.to_dict(), "stemming": True})
