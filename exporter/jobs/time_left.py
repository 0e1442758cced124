"""How long a job will still take: what was expected of its stages, corrected by what they took so far.

An expectation is right to a factor of two or so; what a machine made of the stages before is the better part of it.
"""

from __future__ import annotations

from collections.abc import Mapping

# Of a stage: how far it has come before its own pace says more than what was expected of it.
_TELLING = 0.1
# Seconds of finished stages before they say how fast this machine is.
_ENOUGH = 2.0
# How far the pace of the stages before may move an expectation.
_MOST = 4.0


class TimeLeft:
    """Seconds left, of a stage and of a job.

    Args:
        expected: seconds of each stage by name, in the order in which they come.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._measured: dict[str, float] = {}

    def finish(self, name: str, seconds: float) -> None:
        """A stage took so long."""
        self._measured[name] = seconds

    def of_stage(self, name: str, elapsed: float, done: float) -> float | None:
        """Seconds left of a stage; None where nothing is known of it.

        Args:
            elapsed: seconds since it began.
            done: which share of it, 0..1; 0 where it does not tell.
        """
        expected = self._expected.get(name)
        by_pace = elapsed * (1 - done) / done if done > 0 else None
        if expected is None:
            return by_pace
        by_expectation = max(0.0, expected * self._pace() - elapsed)
        if by_pace is None:
            return by_expectation if by_expectation > 0 else None
        trust = min(1.0, done / _TELLING)
        return trust * by_pace + (1 - trust) * by_expectation

    def of_job(self, name: str, elapsed: float, done: float) -> float | None:
        """Seconds left of the job while a stage runs, see `of_stage`; None where nothing is known of some stage."""
        stage = self.of_stage(name, elapsed, done)
        if stage is None or name not in self._expected:
            return None
        names = list(self._expected)
        later = [one for one in names[names.index(name) + 1 :] if one not in self._measured]
        return stage + self._pace() * sum(self._expected[one] for one in later)

    def _pace(self) -> float:
        """How many times as long as expected the finished stages took."""
        known = [(self._measured[name], seconds) for name, seconds in self._expected.items() if name in self._measured]
        expected = sum(seconds for _, seconds in known)
        if expected < _ENOUGH:
            return 1.0
        pace = sum(seconds for seconds, _ in known) / expected
        return min(_MOST, max(1 / _MOST, pace))


def spelled(seconds: float) -> str:
    """A time as people say it: ``5 s``, ``40 s``, ``3 min``, ``2.5 h``; not more exact than an estimate is."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
