"""What the gate found: one record per check, and whether all of them passed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question the gate asked.

    ``value`` is what was measured and ``limit`` what was allowed, both in ``unit``; ``value`` is None when nothing
    could be measured. ``detail`` says in words what was done and, after a failure, what differed first.
    """

    name: str
    passed: bool
    value: float | int | None
    limit: float | int | None
    unit: str
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record; a number that JSON cannot hold is spelled out."""
        return {
            "name": self.name,
            "passed": self.passed,
            "value": _json_number(self.value),
            "limit": _json_number(self.limit),
            "unit": self.unit,
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The verdict. ``where`` names the first layer that differs, when that was looked for and could be told.

    ``notes`` say what the checks do not: what else differs, and what was not verified. ``ran_on`` names what ran the
    graph: ``backend``, its ``version``, and the file, ``graph``; this says nothing of any other runtime.
    ``quality`` holds the figures of every domain of held-out text, see `exporter.gate.domain_quality.DomainQuality`;
    empty where none is judged. ``second_opinion`` holds the figures of another implementation, where one was asked.
    """

    checks: tuple[Check, ...]
    reference: str
    where: str | None = None
    notes: tuple[str, ...] = ()
    ran_on: dict[str, str] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    second_opinion: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Every check passed, and there was at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def first_failure(self) -> Check | None:
        return next((check for check in self.checks if not check.passed), None)

    @property
    def summary(self) -> str:
        """One line: how many checks passed, or what differed first and where."""
        failure = self.first_failure
        if failure is None:
            return f"All {len(self.checks)} checks passed." if self.checks else "Nothing was checked."
        failed = sum(not check.passed for check in self.checks)
        where = f" {self.where}" if self.where else ""
        return f"{failed} of {len(self.checks)} checks failed, first {failure.name}: {failure.detail}{where}"

    def to_dict(self) -> dict[str, Any]:
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {
            **notes,
            **({"ran_on": self.ran_on} if self.ran_on else {}),
            **({"second_opinion": self.second_opinion} if self.second_opinion else {}),
            "accepted": self.accepted,
            "reference": self.reference,
            "where": self.where,
            "checks": [check.to_dict() for check in self.checks],
            **({"quality": finite_json(self.quality)} if self.quality else {}),
        }


def _json_number(value: float | int | None) -> float | int | str | None:
    if value is None or isinstance(value, int) or math.isfinite(value):
        return value
    return str(value)


def finite_json(value: Any) -> Any:
    """The same record with numbers that JSON cannot hold spelled out."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_json(item) for item in value]
    return _json_number(value) if isinstance(value, float) else value
