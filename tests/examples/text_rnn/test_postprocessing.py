from __future__ import annotations

import pytest

from examples.text_rnn.postprocessing import format_prediction, tidy, tidy_pieces


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("  the end. it  was\ngood! is it? ", "en", "The end. It was good! Is it?"),
        ('"quoted" 3.5 e', "en", '"Quoted" 3.5 e'),
        (" 今天 天气 很 好 。 ", "zh", "今天天气很好。"),
        ("用 Python 写 hello world", "zh", "用Python写hello world"),
        ("", "en", ""),
    ],
)
def test_text_is_polished(text, language, expected):
    assert tidy(text, language) == expected


def test_pieces_give_the_same_as_the_whole():
    text = " one two.  three (four) five! six "
    for size in (1, 2, 3, 7):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert "".join(tidy_pieces(pieces, "en")) == tidy(text, "en")


def test_prediction_names_the_likeliest_label_first():
    assert format_prediction({"bad": 0.017, "good": 0.983}) == "good (good 98.3%, bad 1.7%)"
