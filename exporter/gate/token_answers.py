"""What the gate asks of models with a row of numbers for each token: the same tags, words at masked places, answers."""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.held_out import Question, check_held_out, held_out_windows
from jisu.exporter.gate.one_pass_exam import OnePassExam
from jisu.exporter.gate.result import Check

# One of so many words of a held-out text is masked, as masked language models are trained.
_MASKED = 7


def check_tags(exam: OnePassExam) -> list[Check]:
    """The tag of every token of the held-out texts."""
    return check_held_out(exam, held_out_windows(exam), name="tags", noun="tag")


def check_words(exam: OnePassExam) -> list[Check]:
    """The words at masked places; without a token that masks, at every place."""
    domains = [
        (domain.name, [_masked(exam, row, index) for index, row in enumerate(domain.windows)])
        for domain in exam.texts.judged.domains
    ]
    return check_held_out(exam, domains, name="words", noun="word")


def check_answers(exam: OnePassExam) -> list[Check]:
    """Where answers begin and end in pairs of a question and a text; without a tokenizer, in texts."""
    domains = [(name, [Question(row=row) for row in rows]) for name, rows in exam.texts.pairs]
    return check_held_out(exam, domains or held_out_windows(exam), name="answers", noun="answer")


def _masked(exam: OnePassExam, row: np.ndarray, index: int) -> Question:
    mask = exam.texts.mask
    if mask is None:
        return Question(row=row)
    words = np.flatnonzero(~np.isin(row, list(exam.texts.special)))
    places = words[index % _MASKED :: _MASKED] if len(words) > index % _MASKED else words[:1]
    if not len(places):
        return Question(row=row)
    hidden = row.copy()
    hidden[places] = mask
    return Question(row=hidden, places=places)
