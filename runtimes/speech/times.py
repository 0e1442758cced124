"""Tokens that are times: which may come next, and which parts of a recording they mark.

The rules, and the way in which a window is cut into segments, are those of transformers' ``generate`` (5.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class TimeRules:
    """Edits the logits of one step: times come in pairs, never go back, and begin the answer.

    ``no_timestamps`` is the token that asks for none, ``begin`` the number of tokens of the prompt, ``end`` the token
    that ends an answer, ``first_times`` the last of the times, counted from 0, that an answer may begin with.
    """

    no_timestamps: int
    begin: int
    end: int
    first_times: int | None

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The logits of the next token, float [V], with what may not come at -inf."""
        first = self.no_timestamps + 1
        scores = np.array(logits, np.float64)
        scores[self.no_timestamps] = -np.inf
        said = [int(token) for token in ids[self.begin :]]
        after_time = bool(said) and said[-1] >= first
        closed = len(said) < 2 or said[-2] >= first
        if after_time:
            if closed:
                scores[first:] = -np.inf
            else:
                scores[: self.end] = -np.inf
        times = [token for token in said if token >= first]
        if times:
            # The end of a segment may be the beginning of the next one; no other time comes twice.
            earliest = times[-1] if after_time and not closed else times[-1] + 1
            scores[first:earliest] = -np.inf
        if not said:
            scores[:first] = -np.inf
            if self.first_times is not None:
                scores[first + self.first_times + 1 :] = -np.inf
        return _prefer_times(scores, first)


def _prefer_times(scores: npt.NDArray[np.float64], first: int) -> npt.NDArray[np.float64]:
    """Only times where all of them together are likelier than the likeliest text."""
    words, times = scores[:first], scores[first:]
    loudest = float(times.max(initial=-np.inf))
    if not np.isfinite(loudest):
        return scores
    together = loudest + float(np.log(np.exp(times - loudest).sum()))
    if together > float(words.max(initial=-np.inf)):
        words[:] = -np.inf
    return scores


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Tokens between two times, in steps from the window's beginning."""

    start: float
    end: float
    tokens: tuple[int, ...]


def cut_window(tokens: Sequence[int], *, first: int, steps: float, whole: float) -> tuple[list[Cut], float]:
    """The segments of one window's answer, and by how many steps the next window begins behind this one's beginning.

    Args:
        tokens: the answer without its end token.
        first: the token of time 0.
        steps: of time that this window has, in the unit of its tokens.
        whole: the same, as the step to the next window where nothing was cut off.
    """
    is_time = [token >= first for token in tokens]
    ends = [place + 1 for place in range(len(tokens) - 1) if is_time[place] and is_time[place + 1]]
    if not ends:
        return [_one_segment(tokens, is_time, first=first, steps=steps)], whole
    closed = is_time[-2:] == [False, True]
    if closed:
        ends.append(len(tokens))
    else:
        ends[-1] += 1  # with the time that begins what was not finished
    cuts, start = [], 0
    for number, end in enumerate(ends):
        part = tokens[start:end]
        last = part[-2] if number == len(ends) - 1 and not closed else part[-1]
        # A model that was asked for no times may say some all the same, behind words.
        cuts.append(Cut(start=max(0, part[0] - first), end=max(0, last - first), tokens=tuple(part)))
        start = end
    # What was not finished is heard again, from the time at which it begins.
    return cuts, whole if closed else tokens[start - 2] - first


def _one_segment(tokens: Sequence[int], is_time: Sequence[bool], *, first: int, steps: float) -> Cut:
    times = [token for token, marks in zip(tokens, is_time, strict=True) if marks]
    end = times[-1] - first if times and times[-1] != first else steps
    return Cut(start=0, end=end, tokens=tuple(tokens))
