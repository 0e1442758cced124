"""Checks without a past: whole prompts of several lengths, alone and as a right-padded batch of unequal lengths."""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import SEGMENT_BYTES, Exam, Floats
from jisu.exporter.gate.result import Check


def check_prefill(exam: Exam, length: int) -> Check:
    """The first ``length`` tokens of the long sequence in one call, compared at every position.

    Where the logits of all positions would not fit into the memory set aside for them, only the last is compared; the
    chunked prefill then covers the others.
    """
    tokens = exam.prompts.sequence[:length]
    start, errors = _prefill(exam, exam.prompts.sequence, length, label=f"prefill of {length} tokens")
    exam.prefills[length] = errors
    first = exam.first_wrong(errors)
    passed = exam.passes(errors)
    compared = f"{len(errors)} of {length} positions compared"
    if passed or first is None:
        detail = f"{compared}, {exam.value(errors):.3g} {exam.unit}."
    else:
        position = start + first
        detail = f"Position {position} of {length} differs first, by {errors[first]:.3g} {exam.unit}. "
        detail += _cause(exam, length, position)
    return _check(exam, f"prefill-{length}", errors, passed=passed, detail=detail, tokens=tokens)


def check_sequence(exam: Exam, name: str, sequence: TokenIds) -> Check:
    """One more sequence in one call, compared at every position."""
    start, errors = _prefill(exam, sequence, len(sequence), label=name)
    first = exam.first_wrong(errors)
    passed = exam.passes(errors)
    detail = f"{len(errors)} of {len(sequence)} positions compared, {exam.value(errors):.3g} {exam.unit}."
    if not passed and first is not None:
        detail = f"Position {start + first} differs first, by {errors[first]:.3g} {exam.unit}."
    return _check(exam, name, errors, passed=passed, detail=detail, tokens=sequence)


def check_rows_alone(exam: Exam) -> Check:
    """Each short row as a batch of one."""
    details = []
    for index, row in enumerate(exam.prompts.rows):
        _, errors = _prefill(exam, row, len(row), label=f"row {index} alone")
        exam.alone[index] = errors
        if not exam.passes(errors):
            where = exam.first_wrong(errors)
            details.append(f"Row {index} ({len(row)} tokens) differs first at position {where}.")
    lengths = ", ".join(str(len(row)) for row in exam.prompts.rows)
    passed = not details
    detail = details[0] if details else f"{len(exam.alone)} prompts of {lengths} tokens, each at every position."
    worst = max(exam.alone, key=lambda index: _badness(exam, exam.alone[index]))
    return _check(exam, "batch-1", exam.alone[worst], passed=passed, detail=detail, tokens=exam.prompts.rows[worst])


def check_batch(exam: Exam) -> Check:
    """The same rows together, padded on the right, then a few cached steps so that padding left in the state shows."""
    rows, steps = exam.prompts.rows, exam.prompts.batch_steps
    lengths = np.array([len(row) - steps for row in rows], dtype=np.int64)
    width = int(lengths.max())
    batch = np.stack([_padded(row[:length], width) for row, length in zip(rows, lengths, strict=True)])
    logits = exam.backend.forward(batch, exam.backend.new_state(len(rows), width), new_lengths=lengths, logits="all")
    if logits.shape[:2] != batch.shape:
        raise ValueError(f"logits of shape {logits.shape} for tokens of shape {batch.shape}")
    swapped = _row_held_by(exam, logits[:, :1])
    last: dict[int, Floats] = {}
    parts_by_row = [
        [exam.compare(logits[index, :length], row, 0, label=f"batch of {len(rows)}, row {index}")]
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True))
    ]
    # The same call as a runtime makes it: only each row's own last logits, and then the next tokens.
    state = exam.backend.new_state(len(rows), width + steps)
    logits = exam.backend.forward(batch, state, new_lengths=lengths, logits="last")
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        label = f"batch of {len(rows)}, row {index}, last logits"
        last[index] = exam.compare(logits[index], row, int(length) - 1, label=label)
    for step in range(steps):
        tokens = np.array([[row[length + step]] for row, length in zip(rows, lengths, strict=True)])
        logits = exam.backend.forward(tokens, state, logits="last")
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            label = f"batch of {len(rows)}, row {index}, cached step {step}"
            parts_by_row[index].append(exam.compare(logits[index], row, int(length) + step, label=label))
    errors = [np.concatenate(parts) for parts in parts_by_row]
    wrong = [index for index, row_errors in enumerate(errors) if not exam.passes(row_errors)]
    if wrong:
        index = wrong[0]
        detail = _batch_failure(exam, index, errors[index], int(lengths[index]), swapped)
    elif not all(exam.passes(row_errors) for row_errors in last.values()):
        wrong = [index for index in last if not exam.passes(last[index])]
        detail = f"Row {wrong[0]} is right at every position, but the one given as its last is not its own last."
        errors = list(last.values())
    else:
        shape = ", ".join(str(length) for length in lengths)
        detail = f"Rows of {shape} tokens in one call, then {steps} cached steps together."
    judged = max(errors, key=lambda row_errors: _badness(exam, row_errors))
    return _check(exam, f"batch-{len(rows)}", judged, passed=not wrong, detail=detail, tokens=None)


def _prefill(exam: Exam, sequence: TokenIds, length: int, *, label: str) -> tuple[int, Floats]:
    """Feed the first tokens of a sequence; the first compared position and the errors from there on."""
    tokens = sequence[:length]
    fits = 4 * length * exam.backend.vocab_size <= SEGMENT_BYTES
    state = exam.backend.new_state(1, length)
    logits = exam.backend.forward(tokens[None], state, logits="all" if fits else "last")[0]
    expected = length if fits else 1
    if len(logits) != expected:
        raise ValueError(f"{len(logits)} rows of logits where {expected} are expected")
    start = length - len(logits)
    return start, exam.compare(logits, sequence, start, label=label)


def _cause(exam: Exam, length: int, position: int) -> str:
    """What the other lengths say about a failure; one sentence."""
    for shorter, errors in exam.prefills.items():
        if shorter < length and position < len(errors) and errors[position] <= exam.limit:
            plural = "s" if shorter > 1 else ""
            return (
                f"In a prompt of {shorter} token{plural} the same position is right: later tokens change it, "
                "so the causal mask is at fault."
            )
    if position == 0:
        return "One token without a past is already wrong: weights, layers or their order are at fault."
    return "Earlier positions are right: what a token takes from its past (positions, rotary, attention) is at fault."


def _batch_failure(exam: Exam, index: int, errors: Floats, length: int, swapped: dict[int, int]) -> str:
    first = exam.first_wrong(errors)
    position = first if first is not None else int(errors.argmax())
    where = f"cached step {position - length}" if position >= length else "the prefill"
    text = f"Row {index} differs first at position {position}, in {where}, by {errors[position]:.3g} {exam.unit}."
    if index in swapped:
        return f"{text} It holds what row {swapped[index]} should: the rows are mixed up."
    if exam.against_itself or (index in exam.alone and exam.passes(exam.alone[index])):
        mixed = "what padding leaves in the state is" if position >= length else "how rows or padding are told apart is"
        return f"{text} Alone the same row is right: {mixed} at fault."
    return f"{text} Alone the same row is wrong too."


def _row_held_by(exam: Exam, logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> dict[int, int]:
    """Rows whose first logits are not their own but another row's: index -> whose."""
    rows = exam.prompts.rows
    holders: dict[int, int] = {}
    for index in range(len(rows)):
        if exam.passes(exam.compare(logits[index], rows[index], 0, label=f"batch of {len(rows)}, row {index}")):
            continue
        for other, row in enumerate(rows):
            if other != index and exam.passes(exam.compare(logits[index], row, 0, label=f"row {index}")):
                holders[index] = other
    return holders


def _padded(row: TokenIds, width: int) -> TokenIds:
    # The row's own tokens again: padding that is attended then changes the numbers, which a neutral token may not.
    return np.resize(row, width)


def _badness(exam: Exam, errors: Floats) -> float:
    value = exam.value(errors)
    return float("inf") if np.isnan(value) else value


def _check(exam: Exam, name: str, errors: Floats, *, passed: bool, detail: str, tokens: TokenIds | None) -> Check:
    if not passed and exam.failing_tokens is None:
        exam.failing_tokens = tokens
    value = exam.value(errors)
    return Check(name=name, passed=passed, value=value, limit=exam.limit, unit=exam.unit, detail=detail)
