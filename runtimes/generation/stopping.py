"""When each row of a batch ends: at an end token, at a stop string, or at its limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

FinishReason = Literal["eos", "stop", "length"]


class Stopping:
    """Keeps the reason of each row that has ended.

    Args:
        limits: new tokens that each row may have, each at least 1.
        eos: the model's own end tokens.
        stop_ids: the caller's end tokens.
    """

    def __init__(self, *, limits: Sequence[int], eos: Iterable[int] = (), stop_ids: Iterable[int] = ()) -> None:
        self.reasons: list[FinishReason | None] = [None] * len(limits)
        self._left = list(limits)
        self._eos = frozenset(eos)
        self._stop_ids = frozenset(stop_ids)

    def begin(self, row: int, limit: int) -> None:
        """Let a row begin anew, with so many new tokens."""
        self.reasons[row] = None
        self._left[row] = limit

    @property
    def active(self) -> list[int]:
        """The rows that have not ended."""
        return [row for row, reason in enumerate(self.reasons) if reason is None]

    def observe(self, row: int, token: int) -> bool:
        """Count a token; returns whether it is an end token, which has no text."""
        self._left[row] -= 1
        if token in self._eos:
            self.reasons[row] = "eos"
        elif token in self._stop_ids:
            self.reasons[row] = "stop"
        elif self._left[row] <= 0:
            self.reasons[row] = "length"
        return self.reasons[row] in ("eos", "stop")

    def finish(self, row: int, reason: FinishReason) -> None:
        """End a row for a reason that only its text tells; a stop string counts even on the last token."""
        self.reasons[row] = reason


class StopStrings:
    """Lets text through that cannot become part of a stop string, and ends at the first one.

    Text that is the beginning of a stop string is held back until the next text decides.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Add text; returns what may be shown now, and whether a stop string was found (it is not shown)."""
        if not self._stops:
            return text, False
        self._held += text
        places = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            shown, self._held = self._held[: min(places)], ""
            return shown, True
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a proper beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
