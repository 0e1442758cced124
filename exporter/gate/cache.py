"""Checks with a past: teacher-forced decode, the same tokens without a cache, chunks, and a state taken back."""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.exam import SEGMENT_BYTES, Exam, Floats
from jisu.exporter.gate.result import Check

UNCACHED_STEPS = 3  # first, middle and last


def check_decode(exam: Exam) -> list[Check]:
    """Two checks: the last tokens of the long sequence one by one through the cache, and some of them without it.

    The second one is what tells a cache that is wrong from a computation that is wrong; it also runs the failing step.
    """
    steps = exam.prompts.decode_steps
    errors = _decode(exam)
    failed = exam.first_wrong(errors)
    passed = exam.passes(errors)
    chosen = {int(step) for step in np.linspace(0, steps - 1, min(UNCACHED_STEPS, steps))}
    if failed is not None:
        chosen.add(failed)
    uncached = {step: _without_cache(exam, step) for step in sorted(chosen)}
    past = len(exam.prompts.sequence) - steps
    if passed or failed is None:
        detail = f"{steps} tokens one by one after {past}, each compared."
    else:
        detail = f"Step {failed} (position {past + failed}) differs first, by {errors[failed]:.3g} {exam.unit}. "
        right = uncached[failed] <= exam.limit
        detail += (
            "Without the cache the same tokens are right: the cache is at fault."
            if right
            else "Without the cache the same tokens are wrong too: the computation is at fault, not the cache alone."
        )
    decode = Check(
        name="decode", passed=passed, value=exam.value(errors), limit=exam.limit, unit=exam.unit, detail=detail
    )
    return [decode, _uncached_check(exam, uncached, past)]


def check_chunks(exam: Exam) -> Check:
    """The long sequence in chunks of unequal lengths, one of them a single token, compared at every position."""
    sequence = exam.prompts.sequence
    state = exam.backend.new_state(1, len(sequence))
    bounds = _chunk_bounds(len(sequence), exam.backend.vocab_size)
    parts = []
    for start, stop in bounds:
        logits = exam.backend.forward(sequence[None, start:stop], state, logits="all")[0]
        if len(logits) != stop - start:
            raise ValueError(f"{len(logits)} rows of logits for a chunk of {stop - start} tokens")
        parts.append(exam.compare(logits, sequence, start, label=f"chunk {start}..{stop - 1}"))
    errors = np.concatenate(parts)
    first = exam.first_wrong(errors)
    passed = exam.passes(errors)
    if passed or first is None:
        detail = f"{len(bounds)} chunks of {', '.join(str(stop - start) for start, stop in bounds)} tokens."
    else:
        index = next(index for index, (_, stop) in enumerate(bounds) if first < stop)
        start, stop = bounds[index]
        detail = (
            f"Position {first} differs first, token {first - start} of chunk {index} (positions {start}..{stop - 1}), "
            f"by {errors[first]:.3g} {exam.unit}."
        )
    return _check(exam, "chunked-prefill", errors, passed=passed, detail=detail)


def check_rewind(exam: Exam) -> Check:
    """Other tokens are taken back together with some of the prompt's; the right ones must then fit as before."""
    sequence = exam.prompts.sequence
    prompt = min(37, len(sequence) // 2)
    back = prompt - min(3, prompt - 1)
    astray = sequence[: max(1, min(5, len(sequence) // 4))][::-1].copy()
    stop = back + min(8, len(sequence) - prompt - len(astray))
    # Room for a rewind that does nothing, so that such a fault shows in the numbers and not as a full buffer.
    state = exam.backend.new_state(1, prompt + len(astray) + stop - back)
    exam.backend.forward(sequence[None, :prompt], state)
    exam.backend.forward(astray[None], state)
    state.rewind(np.array([back], dtype=np.int64))
    parts = [
        exam.compare(
            exam.backend.forward(sequence[None, position : position + 1], state)[0],
            sequence,
            position,
            label=f"step after a rewind to {back}",
        )
        for position in range(back, stop)
    ]
    errors = np.concatenate(parts)
    first = exam.first_wrong(errors)
    passed = exam.passes(errors)
    done = f"{prompt} tokens and {len(astray)} others, taken back to {back}, then {stop - back} steps."
    if passed or first is None:
        detail = done
    else:
        detail = f"{done} Step {first} (position {back + first}) differs first, by {errors[first]:.3g} {exam.unit}."
    return _check(exam, "rewind", errors, passed=passed, detail=detail)


def _decode(exam: Exam) -> Floats:
    sequence, steps = exam.prompts.sequence, exam.prompts.decode_steps
    past = len(sequence) - steps
    state = exam.backend.new_state(1, len(sequence))
    exam.backend.forward(sequence[None, :past], state)
    errors: Floats = np.empty(steps)
    for step in range(steps):
        position = past + step
        logits = exam.backend.forward(sequence[None, position : position + 1], state)[0]
        errors[step] = exam.compare(logits, sequence, position, label=f"cached step {step}")[0]
    return errors


def _without_cache(exam: Exam, step: int) -> float:
    position = len(exam.prompts.sequence) - exam.prompts.decode_steps + step
    tokens = exam.prompts.sequence[: position + 1]
    logits = exam.backend.forward(tokens[None], exam.backend.new_state(1, len(tokens)))[0]
    error = exam.compare(logits, exam.prompts.sequence, position, label=f"{position + 1} tokens without cache")
    return float(error[0])


def _uncached_check(exam: Exam, errors: dict[int, float], past: int) -> Check:
    values = np.array(list(errors.values()))
    first = exam.first_wrong(values)
    passed = exam.passes(values)
    steps = list(errors)
    detail = f"Steps {', '.join(str(step) for step in steps)} again as fresh prompts."
    if not passed and first is not None:
        position = past + steps[first]
        detail = f"Position {position} differs as the end of a fresh prompt, by {values[first]:.3g} {exam.unit}."
        if exam.failing_tokens is None:
            exam.failing_tokens = exam.prompts.sequence[: position + 1]
    return _check(exam, "decode-without-cache", values, passed=passed, detail=detail)


def _chunk_bounds(length: int, vocab_size: int) -> list[tuple[int, int]]:
    """Unequal chunks; none with more logits than the memory set aside for them holds."""
    largest = max(1, SEGMENT_BYTES // (4 * vocab_size))
    planned = [max(1, length // 5), 1, max(1, length // 3)]
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < length:
        size = planned[len(bounds)] if len(bounds) < len(planned) else length - start
        stop = min(length, start + min(size, largest))
        bounds.append((start, stop))
        start = stop
    return bounds


def _check(exam: Exam, name: str, errors: Floats, *, passed: bool, detail: str) -> Check:
    value = exam.value(errors)
    return Check(name=name, passed=passed, value=value, limit=exam.limit, unit=exam.unit, detail=detail)
