"""Where an artifact diverges from another implementation: the token ids, the logits, the greedy continuation.

Logits are compared in pieces; a number that is not finite fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.quality import badness, kl_divergence
from jisu.exporter.gate.result import Check
from jisu.exporter.opinions.limits import Limits
from jisu.exporter.precision.logit_errors import logit_errors

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
NAME = "second-opinion"


@dataclass(frozen=True, kw_only=True)
class SequenceFigures:
    """How far the logits of one sequence are apart, over ``positions`` compared ones.

    ``first`` is the first position whose error exceeds the limit, None when none does.
    """

    name: str
    positions: int
    max_logit_error: float
    mean_kl: float
    max_kl: float
    top1: float
    first: int | None


def measure_sequence(name: str, other: Rows, pieces: Iterable[Rows], *, start: int, limits: Limits) -> SequenceFigures:
    """Compare a sequence's logits with the other implementation's.

    Args:
        other: its rows, float32 [R, V].
        pieces: ours, one block of rows after the other.
        start: position of the first row.
    """
    errors, divergence, agreed = [], [], []
    done = 0
    for ours in pieces:
        theirs = np.asarray(other[done : done + len(ours)])
        done += len(ours)
        errors.append(logit_errors(theirs, ours))
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(ours).all(axis=1) & np.isfinite(theirs).all(axis=1)
            divergence.append(np.where(finite, kl_divergence(theirs, ours), np.nan))
        agreed.append(finite & _same_choice(theirs, ours, limits))
    assert done == len(other), f"{done} rows for {len(other)}"
    error, kl, same = np.concatenate(errors), np.concatenate(divergence), np.concatenate(agreed)
    wrong = ~(error <= limits.max_logit_error) if limits.max_logit_error is not None else ~same
    return SequenceFigures(
        name=name,
        positions=done,
        max_logit_error=float(error.max()),
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
        top1=float(same.mean()),
        first=start + int(wrong.argmax()) if wrong.any() else None,
    )


def judge_logits(figures: Sequence[SequenceFigures], limits: Limits, *, name: str = NAME) -> list[Check]:
    """Checks of the largest error (where it is limited), the mean divergence and the agreement."""
    positions = sum(one.positions for one in figures)
    weights = np.array([one.positions for one in figures]) / positions
    error = max((one.max_logit_error for one in figures), key=badness)
    # Of the worst sequence: what differs behind the edge of a window only is not thinned out by all the others.
    worst = max(figures, key=lambda one: badness(one.mean_kl))
    kl = worst.mean_kl
    top1 = float(np.array([one.top1 for one in figures]) @ weights)
    first = next((one for one in figures if one.first is not None), None)
    where = f" It diverges first in {first.name}, at position {first.first}." if first is not None else ""
    limit = limits.max_logit_error
    compared = f"{positions} positions of {len(figures)} sequences compared, the largest difference is {error:.3g} sd."
    return [
        Check(
            name=f"{name}-logits",
            passed=bool(error <= limit) if limit is not None else bool(np.isfinite(error)),
            value=error,
            limit=limit,
            unit="sd of the logits",
            detail=compared + ("" if limit is None or error <= limit else where),
        ),
        Check(
            name=f"{name}-kl",
            passed=bool(kl <= limits.max_mean_kl),
            value=kl,
            limit=limits.max_mean_kl,
            unit="nats, mean KL",
            detail=f"Mean KL is {kl:.3g} nats in {worst.name}, the worst sequence; the limit is {limits.max_mean_kl:g}."
            + ("" if limit is not None or kl <= limits.max_mean_kl else where),
        ),
        Check(
            name=f"{name}-top-1",
            passed=bool(top1 >= limits.min_top1),
            value=top1,
            limit=limits.min_top1,
            unit="share",
            detail=f"The same most likely token at {top1:.2%} of the positions, near ties included; the limit is "
            f"{limits.min_top1:.0%}." + (where if limit is None and not top1 >= limits.min_top1 else ""),
        ),
    ]


def compare_ids(texts: Sequence[str], ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> list[str]:
    """A sentence for each text whose ids differ."""
    differing = []
    for text, mine, others in zip(texts, ours, theirs, strict=True):
        if list(mine) == list(others):
            continue
        at = next((i for i, (a, b) in enumerate(zip(mine, others, strict=False)) if a != b), None)
        at = min(len(mine), len(others)) if at is None else at
        differing.append(
            f"{text!r} differs first at token {at}: {list(mine[at : at + 3])} where the other implementation has "
            f"{list(others[at : at + 3])} ({len(mine)} tokens instead of {len(others)})."
        )
    return differing


def judge_texts(name: str, differing: list[str], fine: str) -> Check:
    return Check(
        name=f"{NAME}-{name}",
        passed=not differing,
        value=len(differing),
        limit=0,
        unit="texts that differ",
        detail=differing[0] if differing else fine,
    )


def judge_continuations(
    ours: Sequence[Sequence[int]], theirs: Sequence[tuple[list[int], Rows]], limits: Limits
) -> Check:
    """Greedy tokens must be the same up to the first near tie, after which two continuations are two texts."""
    wrong, ties, total = [], 0, 0
    for index, (mine, (others, scores)) in enumerate(zip(ours, theirs, strict=True)):
        at = next((i for i, (a, b) in enumerate(zip(mine, others, strict=False)) if a != b), None)
        if at is None and len(mine) != len(others):
            at = min(len(mine), len(others))
        total += len(others) if at is None else at + 1
        if at is None:
            continue
        if at < len(mine) and at < len(others) and _near_tie(scores[at], mine[at], limits):
            ties += 1
            continue
        said = f"token {mine[at]}" if at < len(mine) else "it ends"
        expected = f"chooses {others[at]}" if at < len(others) else "ends"
        wrong.append(f"Prompt {index}, step {at}: {said} where the other implementation {expected}.")
    done = f"{total} tokens after {len(theirs)} prompts, {ties} near tie{'' if ties == 1 else 's'}."
    return Check(
        name=f"{NAME}-greedy",
        passed=not wrong and total > 0,
        value=len(wrong),
        limit=0,
        unit="prompts that differ",
        detail=f"{wrong[0]} ({done})" if wrong else done,
    )


def to_record(figures: Sequence[SequenceFigures]) -> list[dict[str, Any]]:
    return [asdict(one) for one in figures]


def _same_choice(theirs: Rows, ours: Rows, limits: Limits) -> npt.NDArray[np.bool_]:
    chosen = ours.argmax(axis=1)
    same = theirs.argmax(axis=1) == chosen
    near = np.array([_near_tie(row, int(token), limits) for row, token in zip(theirs, chosen, strict=True)], bool)
    agreed: npt.NDArray[np.bool_] = same | near
    return agreed


def _near_tie(row: Rows, token: int, limits: Limits) -> bool:
    """Whether both logits are closer than the two implementations can tell apart, each off in another direction."""
    finite = row[np.isfinite(row)]
    if not len(finite):
        return False
    room = 2 * (limits.max_logit_error or 0.0) * float(finite.std(dtype=np.float64))
    return bool(finite.max() - row[token] <= room)
