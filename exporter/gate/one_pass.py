"""The gate of a model that reads whole texts: the same ones through the candidate and its source, alone and in batches.

Like `exporter.gate.run` it sees the exported model only as a backend and the truth only as a reference, and whatever a
candidate does ends in a verdict. What is asked of the answers on held-out texts depends on the kind of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jisu.exporter.contract.artifact import ANSWERING, EMBEDDING, FILLING, TAGGING, ModelKind
from jisu.exporter.gate.classification import check_labels
from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.embedding import check_vectors
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.one_pass_exam import Numbers, OnePassExam
from jisu.exporter.gate.result import Check, GateResult
from jisu.exporter.gate.run import Progress, Step, located, run_check
from jisu.exporter.gate.texts import GateTexts
from jisu.exporter.gate.token_answers import check_answers, check_tags, check_words
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.one_pass_backend import OnePassBackend
    from jisu.exporter.gate.one_pass_reference import OnePassReference

# What is asked of the answers on held-out texts: the step's name, and the question.
_QUESTIONS: dict[ModelKind, tuple[str, Callable[[OnePassExam], list[Check]]]] = {
    EMBEDDING: ("vectors", check_vectors),
    TAGGING: ("tags", check_tags),
    FILLING: ("words", check_words),
    ANSWERING: ("answers", check_answers),
}
_PAIRS = 3  # of a batch
_OF_LABELS = ("labels", check_labels)


def run_one_pass_gate(
    backend: OnePassBackend,
    reference: OnePassReference,
    *,
    texts: GateTexts,
    budget: Budget,
    tokenizer_check: Callable[[], Sequence[Check]] | None = None,
    locate: Callable[[TokenIds], str | None] | None = None,
    progress: Progress | None = None,
) -> GateResult:
    """Judge a model of the reference's kind; arguments and result are those of `exporter.gate.run.run_gate`."""
    exam = OnePassExam(backend=backend, reference=reference, texts=texts, budget=budget)
    columns = _check_columns(exam)
    steps = _steps(exam, tokenizer_check) if columns.passed else []
    checks: list[Check] = []
    for index, (name, ask) in enumerate(steps):
        if progress:
            progress(name, index, len(steps))
        checks.extend(run_check(name, ask))
    if columns.passed:
        checks.insert(0, _check_finite(exam))
    where = located(locate, exam.failing_tokens)
    return GateResult(
        checks=(columns, *checks),
        reference=f"{reference.description}; {texts.text}",
        where=where,
        notes=tuple(f"Not judged on {reason}." for reason in texts.judged.left_out),
        quality=exam.quality,
    )


def _steps(exam: OnePassExam, tokenizer_check: Callable[[], Sequence[Check]] | None) -> list[Step]:
    steps: list[Step] = [(f"text-{len(row)}", partial(_check_alone, exam, row)) for row in exam.texts.alone]
    steps.append((f"batch-{len(exam.texts.rows)}", partial(_check_batch, exam, exam.texts.rows, "batch")))
    if exam.texts.pairs and exam.texts.types and exam.backend.takes_unequal:
        rows = max((rows for _, rows in exam.texts.pairs), key=len)[:_PAIRS]
        steps.append((f"pairs-batch-{len(rows)}", partial(_check_batch, exam, rows, "pairs-batch")))
    steps.append((_QUESTIONS.get(exam.kind, _OF_LABELS)[0], partial(ask_held_out, exam)))
    if tokenizer_check is not None:
        steps.append(("tokenizer", lambda: list(tokenizer_check())))
    return steps


def ask_held_out(exam: OnePassExam) -> list[Check]:
    """What is asked of a kind's answers on held-out texts; the figures are then in the exam's ``quality``."""
    return _QUESTIONS.get(exam.kind, _OF_LABELS)[1](exam)


def _check_columns(exam: OnePassExam) -> Check:
    ours, theirs, unit = exam.backend.columns, exam.reference.columns, exam.unit_of_columns
    detail = f"{ours} {unit}." if ours == theirs else f"{ours} {unit}; the source has {theirs}."
    return Check(name="columns", passed=ours == theirs, value=ours, limit=theirs, unit=unit, detail=detail)


def _check_finite(exam: OnePassExam) -> Check:
    detail = f"Every {exam.noun} that was compared is finite."
    if exam.source_nonfinite:
        detail = f"The source itself gives {exam.noun}s that are not finite."
    elif exam.first_nonfinite is not None:
        detail = f"NaN or infinity among the {exam.noun}s, first in {exam.first_nonfinite}."
    passed = exam.nonfinite == 0 and not exam.source_nonfinite
    return Check(name="finite", passed=passed, value=exam.nonfinite, limit=0, unit=f"{exam.noun}s", detail=detail)


def _check_alone(exam: OnePassExam, row: TokenIds) -> Check:
    """One text in one call."""
    error = exam.error(exam.truth(row), exam.candidate([row], f"a text of {len(row)} tokens")[0])
    passed = bool(error <= exam.limit)
    if not passed and exam.failing_tokens is None:
        exam.failing_tokens = row
    detail = f"{len(row)} token{'' if len(row) == 1 else 's'} alone, {error:.3g} {exam.unit}."
    if not passed:
        detail += _cause(exam, row)
    name = f"text-{len(row)}"
    return Check(name=name, passed=passed, value=error, limit=exam.limit, unit=exam.unit, detail=detail)


def _check_batch(exam: OnePassExam, rows: Sequence[TokenIds], kind: str) -> Check:
    """Several texts in one call: neither padding nor another row may change a row."""
    if not exam.backend.takes_unequal:
        rows = tuple(row[: min(map(len, rows))] for row in rows)
    alone = [exam.candidate([row], f"row {index} alone")[0] for index, row in enumerate(rows)]
    truth = [exam.truth(row) for row in rows]
    together = exam.candidate(rows, f"a batch of {len(rows)}")
    # Reduced precision is far from the source by design, which would hide a fault; from itself it differs by rounding.
    expected = truth if exam.strict else alone
    limit, unit = (exam.limit, exam.unit) if exam.strict else exam.self_limit
    errors: Floats = np.array([exam.self_error(right, row) for right, row in zip(expected, together, strict=True)])
    wrong = np.flatnonzero(~(errors <= limit))
    lengths = ", ".join(str(len(row)) for row in rows)
    detail = f"Rows of {lengths} tokens in one call."
    if not exam.backend.takes_unequal:
        detail += " The model takes no mask: rows of one length only."
    if len(wrong):
        first = int(wrong[0])
        detail = f"Row {first} of a batch of {lengths} tokens is off by {errors[first]:.3g} {unit}. "
        right = bool(exam.error(truth[first], alone[first]) <= exam.limit)
        detail += _batch_cause(exam, first, expected, together, limit) if right else "Alone the same row is wrong too."
    name, passed = f"{kind}-{len(rows)}", not len(wrong)
    return Check(name=name, passed=passed, value=float(errors.max()), limit=limit, unit=unit, detail=detail)


def _cause(exam: OnePassExam, row: TokenIds) -> str:
    if len(row) == 1:
        order = f"their order or the {exam.unit_of_columns}'"
        return f" One token alone is already wrong: weights, layers, {order} are at fault."
    return " What a token takes from the others (positions, attention) may be at fault."


def _batch_cause(
    exam: OnePassExam, row: int, truth: Sequence[Numbers], together: Sequence[Numbers], limit: float
) -> str:
    for other, expected in enumerate(truth):
        alike = expected.shape == together[row].shape
        if other != row and alike and bool(exam.self_error(expected, together[row]) <= limit):
            return f"It holds what row {other} should: the rows are mixed up."
    return "Alone the same row is right: how rows or padding are told apart is at fault."
