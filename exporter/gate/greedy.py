"""Greedy tokens: what the candidate says must be what the reference would say after the same words."""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Exam
from jisu.exporter.gate.result import Check

NAME = "greedy"
UNIT = "wrong tokens"


def check_greedy(exam: Exam) -> Check:
    """Continue each prompt greedily and let the reference judge all tokens of a continuation in one run.

    At every step the reference sees the same tokens as the candidate did, so equal choices at all steps are equal
    continuations. Where they differ although the reference's two logits are closer than both models' rounding can
    tell apart, it is a near tie: reported, not counted as wrong.
    """
    wrong, ties, total = 0, 0, 0
    first: str | None = None
    for index, prompt in enumerate(exam.prompts.greedy):
        tokens = _continuation(exam, prompt)
        for step, (token, best, tie) in enumerate(_judged(exam, prompt, tokens)):
            total += 1
            if token == best:
                continue
            if tie:
                ties += 1
                continue
            wrong += 1
            first = first or f"Prompt {index}, step {step}: token {token} where the reference chooses {best}."
    done = f"{total} tokens after {len(exam.prompts.greedy)} prompts, {ties} near tie{'' if ties == 1 else 's'}."
    detail = done if first is None else f"{first} ({done})"
    return Check(name=NAME, passed=wrong == 0 and total > 0, value=wrong, limit=0, unit=UNIT, detail=detail)


def _continuation(exam: Exam, prompt: TokenIds) -> TokenIds:
    steps = exam.prompts.greedy_steps
    state = exam.backend.new_state(1, len(prompt) + steps)
    tokens = np.empty(steps, dtype=np.int64)
    fed = prompt
    for step in range(steps):
        tokens[step] = exam.backend.forward(fed[None], state)[0, -1].argmax()
        fed = tokens[step : step + 1]
    return tokens


def _judged(exam: Exam, prompt: TokenIds, tokens: TokenIds) -> list[tuple[int, int, bool]]:
    """For each token: itself, the reference's choice, and whether the two are a near tie."""
    seen = np.concatenate([prompt, tokens[:-1]])
    rows = exam.truth.reference.logits(seen, slice(len(prompt) - 1, len(seen)))
    limit = exam.budget.max_logit_error or 0.0
    judged = []
    for row, token in zip(rows, tokens, strict=True):
        best = int(row.argmax())
        # Either logit may be off by the limit, in opposite directions.
        tie = bool(row[best] - row[token] <= 2 * limit * row.std(dtype=np.float64))
        judged.append((int(token), best, tie))
    return judged
