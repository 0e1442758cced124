"""The interactive prompt: a line of text in, its continuation or its label out, until the input ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from examples.text_rnn.asking import continue_text, probabilities_of
from examples.text_rnn.postprocessing import format_prediction
from examples.text_rnn.segmentation import Language
from jisu import InputError

if TYPE_CHECKING:
    from examples.text_rnn.prepared_data import Preparation
    from jisu import Engine, SamplingOptions

QUESTIONS: dict[Language, str] = {"zh": "请输入文本：", "en": "Enter text: "}
ANSWERS: dict[Language, str] = {"zh": "预测结果：", "en": "Prediction: "}


def ask_until_done(engine: Engine, preparation: Preparation, options: SamplingOptions) -> None:
    """Answer line after line; Ctrl-C stops an answer, and at the prompt it leaves, as Ctrl-D does."""
    language = preparation.preprocessing.language
    while True:
        try:
            text = input(QUESTIONS[language])
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not text.strip():
            continue
        try:
            _answer(engine, text, preparation, options)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print()


def _answer(engine: Engine, text: str, preparation: Preparation, options: SamplingOptions) -> None:
    if preparation.task == "classify":
        answer = format_prediction(probabilities_of(engine, text, preparation))
        print(f"{ANSWERS[preparation.preprocessing.language]}{answer}")
        return
    for piece in continue_text(engine, text, preparation, options):
        print(piece, end="", flush=True)
    print()
