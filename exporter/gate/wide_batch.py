"""A batch of many unequal rows, stepped and put into another order: what a batch of three does not show.

Its rows are beginnings of sequences whose truth is known already, so that it costs a few short calls.
"""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Exam
from jisu.exporter.gate.result import Check

ROWS = 17  # more than a vector register holds, and no multiple of anything
_LENGTHS = 11  # different ones, from 2 on


def check_wide_batch(exam: Exam) -> Check:
    """All rows in one call, a cached step, the rows in another order with some of them twice, and two more steps."""
    rows, lengths = _rows(exam)
    width = int(lengths.max())
    state = exam.backend.new_state(ROWS, width + 3)
    batch = np.stack([np.resize(row[:length], width) for row, length in zip(rows, lengths, strict=True)])
    logits = exam.backend.forward(batch, state, new_lengths=lengths, logits="last")
    errors = [_compared(exam, logits, rows, lengths, "the prefill")]
    order = np.array([(5 * row + 3) % ROWS if row % 4 else row // 2 for row in range(ROWS)], np.int64)
    for step in range(3):
        if step == 1:
            state.reorder(order)
            rows, lengths = [rows[row] for row in order], lengths[order]
        tokens = np.array([[row[length]] for row, length in zip(rows, lengths, strict=True)])
        lengths = lengths + 1
        logits = exam.backend.forward(tokens, state, logits="last")
        errors.append(_compared(exam, logits, rows, lengths, f"step {step}"))
    stages = ("the first call", "the step after it", "the step after rows changed places", "the last step")
    wrong = [stage for stage, stage_errors in zip(stages, errors, strict=True) if not exam.passes(stage_errors)]
    joined = np.concatenate(errors)
    detail = f"{ROWS} rows of {int(lengths.min()) - 3} to {width} tokens in one call, stepped, reordered and stepped."
    if wrong:
        stage_errors = errors[stages.index(wrong[0])]
        row = exam.first_wrong(stage_errors)
        row = int(stage_errors.argmax()) if row is None else row
        detail = f"Row {row} of {ROWS} differs in {wrong[0]}, by {stage_errors[row]:.3g} {exam.unit}."
    name, value = f"batch-{ROWS}", exam.value(joined)
    return Check(name=name, passed=not wrong, value=value, limit=exam.limit, unit=exam.unit, detail=detail)


def _rows(exam: Exam) -> tuple[list[TokenIds], TokenIds]:
    """Sequences, each with room for three more tokens, and how many of theirs each row begins with."""
    known = [*exam.prompts.rows, exam.prompts.sequence]
    longest = max(1, min(_LENGTHS + 1, min(len(row) for row in known) - 3))
    lengths = np.array([min(longest, 2 + 5 * row % _LENGTHS) for row in range(ROWS)], np.int64)
    return [known[row % len(known)] for row in range(ROWS)], lengths


def _compared(
    exam: Exam,
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    rows: list[TokenIds],
    lengths: TokenIds,
    what: str,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.concatenate(
        [
            exam.compare(logits[index], row, int(length) - 1, label=f"a batch of {ROWS}, row {index}, {what}")
            for index, (row, length) in enumerate(zip(rows, lengths, strict=True))
        ]
    )
