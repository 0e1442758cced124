"""Is this slower than the baseline? By the seconds of one machine, and by multiples of a reference row on any.

A slowdown counts when the intervals of the two medians do not touch. What was not compared is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jisu.benchmarks.report.column import at, shown
from jisu.benchmarks.report.metric_case import metric_case
from jisu.benchmarks.report.same_machine import feature_differences, machine_differences
from jisu.benchmarks.report.schema import Report

DEFAULT_SLOWDOWN = 0.1
# An interval of the median that holds it less often tells nothing: fewer than three trials.
LEAST_CONFIDENCE = 0.75
# By the name of the metric where it is found, and in which unit; a contestant has those of what it is for.
SPEEDS = {
    "decode": ("decode_tokens_per_s", "tok/s"),
    "prefill": ("prefill_tokens_per_s", "tok/s"),
    "speed": ("texts_per_s", "texts/s"),
    "transcription": ("sound_per_s", "s of sound/s"),
    "reading of images": ("images_per_s", "images/s"),
    "hearing": ("heard_per_s", "s of sound/s"),
}
# A reference whose size has changed by more is another model, and no measure.
_SAME_SIZE = 0.01
_BLIND = "varies too much to tell"

Row = Mapping[str, Any]
Pairs = Sequence[tuple[Row, Row]]


@dataclass(frozen=True, kw_only=True)
class SpeedVerdict:
    """Cases as of `metric_case`; ``notes`` on single figures; ``not_compared`` what nobody may overlook."""

    same_machine: bool
    cases: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)


def judge_speeds(report: Report, baseline: Report, rows: Pairs, *, limit: float | None) -> SpeedVerdict:
    """Compare the speeds of two reports.

    Args:
        rows: (row now, row then) of every contestant that both have measured.
        limit: largest loss of speed as a share; `DEFAULT_SLOWDOWN` when None.
    """
    limit = DEFAULT_SLOWDOWN if limit is None else limit
    differing = machine_differences(report, baseline)
    verdict = SpeedVerdict(same_machine=not differing)
    reference = report.get("relative_to")
    problem = None if reference is None else _reference_problem(report, baseline, reference)
    workloads = _same_workloads(report, baseline, verdict.notes)
    if not differing:
        verdict.cases.extend(_cases(workloads, rows, _second, limit, verdict.notes))
    if reference is not None and problem is None:
        others = [(row, old) for row, old in rows if row["name"] != reference]
        verdict.cases.extend(_relative_cases(report, baseline, workloads, others, limit, verdict.notes))
        verdict.notes.extend(_reference_notes(report, baseline, reference))
    if blind := [case for case in verdict.cases if case["verdict"] == _BLIND]:
        verdict.not_compared.append(
            f"{len(blind)} of {len(verdict.cases)} speeds vary so much from trial to trial that a slowdown of "
            f"{100 * limit:g} % would not be seen: take more --trials or a quieter machine."
        )
    if differing:
        verdict.not_compared.append(_of_another_machine(differing, reference, judged=problem is None))
    if problem is not None:
        verdict.not_compared.append(f"Speed relative to {reference} was not compared with the baseline: {problem}.")
    return verdict


def _of_another_machine(differing: Sequence[str], reference: str | None, *, judged: bool) -> str:
    why = "; ".join(differing)
    if reference is None:
        return (
            f"Speed and memory were not compared, the baseline is of another machine: {why}. "
            "--relative-to ROW compares speeds across machines."
        )
    instead = f"; speed was compared relative to {reference}" if judged else ""
    return f"Tokens per second and memory were not compared, the baseline is of another machine: {why}{instead}."


def _reference_problem(report: Report, baseline: Report, reference: str) -> str | None:
    """Why the reference row is no common measure of the two reports, None when it is one."""
    now, before = (_row(item, reference) for item in (report, baseline))
    if before is None or before["failure"] is not None:
        return "the baseline has not measured that row; measure it anew with the same --relative-to"
    if now is None or now["failure"] is not None:
        return "that row failed"
    size, earlier = now.get("size_bytes"), before.get("size_bytes")
    if size and earlier and abs(size / earlier - 1) > _SAME_SIZE:
        return (
            f"that row is of another model than in the baseline ({shown(size, 'MB')} MB, "
            f"was {shown(earlier, 'MB')} MB), so it is no common measure"
        )
    return None


def _reference_notes(report: Report, baseline: Report, reference: str) -> list[str]:
    """What may have changed the multiples besides the rows themselves."""
    notes = [f"{text[0].upper()}{text[1:]}: multiples may differ." for text in feature_differences(report, baseline)]
    versions = [(_row(item, reference) or {}).get("version") for item in (report, baseline)]
    if versions[0] != versions[1]:
        notes.append(f"The reference {reference} is {versions[0]}, was {versions[1]}: multiples may differ.")
    return notes


def _row(report: Report, name: str) -> Row | None:
    return next((row for row in report["rows"] if row["name"] == name), None)


def _same_workloads(report: Report, baseline: Report, notes: list[str]) -> list[str]:
    before = {item["name"]: item for item in baseline["workloads"]}
    names = []
    for workload in report["workloads"]:
        if before.get(workload["name"]) == workload:
            names.append(workload["name"])
        else:
            notes.append(f"The workload {workload['name']} is not the baseline's.")
    return names


def _cases(workloads: Sequence[str], rows: Pairs, second: Any, limit: float, notes: list[str]) -> list[dict[str, Any]]:
    """A case for each speed that both have measured."""
    cases = []
    for name in workloads:
        for row, old in rows:
            for metric, (key, unit) in SPEEDS.items():
                new_figure, old_figure = (second(item, name, key) for item in (row, old))
                if new_figure is not None and old_figure is not None:
                    cases.append(_speed_case(row, f"{metric} on {name}", new_figure, old_figure, limit, f" {unit}"))
                elif new_figure is not old_figure:  # one of them is None
                    where = "now" if new_figure is None else "in the baseline"
                    notes.append(f"{row['name']} has no {metric} on {name} {where}, so that was not compared.")
    return cases


def _second(row: Row, workload: str, key: str) -> Mapping[str, Any] | None:
    interval: Mapping[str, Any] | None = at(row, ("measured", workload, key))
    return interval


def _relative_cases(
    report: Report, baseline: Report, workloads: Sequence[str], rows: Pairs, limit: float, notes: list[str]
) -> list[dict[str, Any]]:
    """A case for each multiple of the reference's speed that both have measured."""
    reference = report["relative_to"]
    cases = []
    for name in workloads:
        for row, old in rows:
            for metric, (key, _) in SPEEDS.items():
                figures = [_multiple(item, its, reference, name, key) for item, its in ((report, row), (baseline, old))]
                if figures[0] is not None and figures[1] is not None:
                    title = f"{metric} on {name} relative to {reference}"
                    cases.append(_speed_case(row, title, figures[0], figures[1], limit, " times its speed"))
                elif figures[0] is not figures[1]:
                    where = "now" if figures[0] is None else "in the baseline"
                    notes.append(f"{row['name']} has no {metric} on {name} relative to {reference} {where}.")
    return cases


def _multiple(report: Report, row: Row, reference: str, workload: str, key: str) -> Mapping[str, Any] | None:
    """A row's speed as a multiple of the reference's, with its interval.

    That of each round where the report has it, else of the two medians, whose interval is then the widest there can be.
    """
    if report.get("relative_to") == reference:
        interval: Mapping[str, Any] | None = at(row, ("relative", workload, key))
        return interval
    own, other = (at(item, ("measured", workload, key)) for item in (row, _row(report, reference)))
    if own is None or other is None:
        return None
    return {
        "median": own["median"] / other["median"],
        "low": own["low"] / other["high"],
        "high": own["high"] / other["low"],
        "confidence": min(own["confidence"], other["confidence"]),
    }


def _speed_case(
    row: Row, metric: str, now: Mapping[str, Any], before: Mapping[str, Any], limit: float, unit: str
) -> dict[str, Any]:
    """Slower when the intervals of the two medians do not touch, and a regression when by more than the limit."""
    change = now["median"] / before["median"] - 1
    change_text = f"{shown(now['median'], '')}{unit} after {shown(before['median'], '')} ({100 * change:+.1f} %)"
    passed, verdict = True, "no real change"
    if min(now["confidence"], before["confidence"]) < LEAST_CONFIDENCE:
        verdict = "too few trials to tell"
    elif now["low"] > before["high"]:
        verdict = "faster"
    elif now["high"] >= before["low"] and _spread(now) + _spread(before) > limit:
        verdict = _BLIND
    elif now["high"] < before["low"]:
        passed = bool(-change <= limit)
        verdict = "slower" if passed else "regressed"
    text = f"{change_text}: {verdict}" + ("" if passed else f", and the limit is {100 * limit:g} %")
    case = metric_case(row, metric, passed=passed, text=text, now=now["median"], before=before["median"], limit=limit)
    return {**case, "verdict": verdict}


def _spread(figure: Mapping[str, Any]) -> float:
    """How far its interval reaches to one side, as a share of the median."""
    return float(figure["high"] - figure["low"]) / 2 / float(figure["median"])
