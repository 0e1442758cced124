"""Is this worse than the baseline, or over a limit? A change counts when it is larger than the spread of both runs.

What cannot be compared (another machine, another schema, other workloads) is said and left out, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jisu.benchmarks.report.columns import at, headline_columns, shown
from jisu.benchmarks.report.schema import SCHEMA_VERSION, Report
from jisu.exporter.contract.errors import InputError
from jisu.exporter.reports.junit import JunitCase
from jisu.runtimes.backends.registry import CLASSIFICATION

DEFAULT_SLOWDOWN = 0.1
# An interval of the median that holds it less often tells nothing: fewer than three trials.
LEAST_CONFIDENCE = 0.75
# By the name of the metric where it is found, and in which unit; a contestant has those of what it is for.
SPEEDS = {
    "decode": ("decode_tokens_per_s", "tok/s"),
    "prefill": ("prefill_tokens_per_s", "tok/s"),
    "speed": ("texts_per_s", "texts/s"),
}
_SAME_MACHINE = ("processor", "cores", "memory_bytes", "system")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is too much; None sets no limit. Growth and slowdown are shares of the baseline's figure."""

    max_slowdown: float | None = None
    max_memory_growth: float | None = None
    max_size_growth: float | None = None
    max_kl: float | None = None
    max_average_kl: float | None = None
    min_top1: float | None = None
    max_perplexity_ratio: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value < math.inf:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} is not a limit", received=value, allowed="0 or more", fix="Correct it.")

        if self.min_top1 is not None and self.min_top1 > 1:
            raise InputError(
                "--min-top1 is not a share", received=self.min_top1, allowed="0 to 1, or 95%", fix="Correct it."
            )

    @property
    def any_is_set(self) -> bool:
        return any(value is not None for value in vars(self).values())

    @property
    def of_change(self) -> dict[str, float | None]:
        """Those that need a baseline, by their options."""
        return {
            "--max-slowdown": self.max_slowdown,
            "--max-memory-growth": self.max_memory_growth,
            "--max-size-growth": self.max_size_growth,
        }

    def check(self, *, task: str, quality: bool) -> None:
        """Raise InputError for limits of figures that nobody will measure.

        Args:
            task: what the contestants are for.
            quality: whether predictions are compared.
        """
        limits = {
            "--max-kl": self.max_kl,
            "--max-kl-mean": self.max_average_kl,
            "--min-top1": self.min_top1,
            "--max-ppl-ratio": self.max_perplexity_ratio,
        }
        names = [name for name, value in limits.items() if value is not None]
        if names and not quality:
            raise InputError(
                "These limits need a comparison of predictions",
                received=f"--no-quality with {', '.join(names)}",
                allowed="one or the other",
                fix="Leave --no-quality out.",
            )
        if task == CLASSIFICATION and self.max_perplexity_ratio is not None:
            raise InputError(
                "Labels have no perplexity",
                received=f"--max-ppl-ratio with artifacts for {task}",
                allowed="limits --max-kl and --min-top1",
                fix="Leave --max-ppl-ratio out.",
            )


def judge(report: Report, baseline: Report | None, limits: Limits) -> dict[str, Any]:
    """Compare a report with a baseline and with limits.

    Returns:
        ``cases``, each with the row, the metric, whether it passed, and ``now``, ``before`` and ``limit`` where there
        are such numbers; ``notes`` on what could not be compared; ``baseline``, when and where it was measured.
    """
    notes: list[str] = []
    cases = [_case(row, "measured", passed=False, text=f"failed: {row['failure']}") for row in _failed(report)]
    cases += _quality_cases(report, limits)
    if baseline is not None:
        known = _comparable_rows(report, baseline, notes)
        if known and _is_same_machine(report, baseline, notes):
            cases += _speed_cases(report, baseline, known, limits, notes)
            cases += _growth_cases(known, "peak memory", "peak_bytes", limits.max_memory_growth, notes)
        cases += _growth_cases(known, "size", "size_bytes", limits.max_size_growth, notes)
    elif options := [option for option, value in limits.of_change.items() if value is not None]:
        notes.append(f"{', '.join(options)} had nothing to compare with: no --baseline was given.")
    about = None if baseline is None else {"created": baseline.get("created"), "machine": baseline.get("machine")}
    return {"cases": cases, "notes": notes, "baseline": about}


def junit_cases(report: Report) -> list[JunitCase]:
    """One case for each metric that was judged; without a verdict one for each headline figure of each row."""
    verdict = report.get("verdict")
    if verdict is not None and verdict["cases"]:
        return [
            JunitCase(group=case["row"], name=case["metric"], passed=case["passed"], text=case["text"])
            for case in verdict["cases"]
        ]
    cases = []
    for row in report["rows"]:
        if row["failure"] is not None:
            cases.append(JunitCase(group=row["name"], name="measured", passed=False, text=row["failure"]))
            continue
        for column in headline_columns(report):
            value = at(row, column.path)
            value = value.get("median") if isinstance(value, Mapping) else value
            text = "not measured" if value is None else f"{shown(value, column.unit)} {column.unit}".strip()
            cases.append(JunitCase(group=row["name"], name=column.title, passed=True, text=text, skipped=value is None))
    return cases


def _failed(report: Report) -> Iterator[Mapping[str, Any]]:
    return (row for row in report["rows"] if row["failure"] is not None)


def _comparable_rows(
    report: Report, baseline: Report, notes: list[str]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(row now, row then) of every contestant that both have measured."""
    if baseline.get("schema_version") != SCHEMA_VERSION:
        notes.append(
            f"The baseline has the schema {baseline.get('schema_version')} and this report {SCHEMA_VERSION}: nothing "
            "of it was compared. Make it anew with this version."
        )
        return []
    before = {row["name"]: row for row in baseline["rows"]}
    now = {row["name"]: row for row in report["rows"]}
    notes += [f"{name} is not in the baseline." for name in now if name not in before]
    notes += [f"{name} of the baseline was not measured now." for name in before if name not in now]
    notes += [f"{name} had failed in the baseline." for name in now if name in before and before[name]["failure"]]
    return [
        (row, before[name])
        for name, row in now.items()
        if name in before and row["failure"] is None and before[name]["failure"] is None
    ]


def _is_same_machine(report: Report, baseline: Report, notes: list[str]) -> bool:
    differing = [
        f"{name} is {report['machine'].get(name)}, was {baseline['machine'].get(name)}"
        for name in _SAME_MACHINE
        if report["machine"].get(name) != baseline["machine"].get(name)
    ]
    threads = (report["settings"]["threads"], baseline["settings"]["threads"])
    if threads[0] != threads[1]:
        differing.append(f"{threads[0]} threads, were {threads[1]}")
    if differing:
        notes.append(
            f"The baseline is of another machine, so speed and memory were not compared: {'; '.join(differing)}."
        )
    return not differing


def _speed_cases(
    report: Report,
    baseline: Report,
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    limits: Limits,
    notes: list[str],
) -> list[dict[str, Any]]:
    limit = DEFAULT_SLOWDOWN if limits.max_slowdown is None else limits.max_slowdown
    before = {item["name"]: item for item in baseline["workloads"]}
    cases = []
    for workload in report["workloads"]:
        name = workload["name"]
        if before.get(name) != workload:
            notes.append(f"The workload {name} is not the baseline's.")
            continue
        for row, old in rows:
            for metric, (key, unit) in SPEEDS.items():
                new_figure, old_figure = (at(item, ("measured", name, key)) for item in (row, old))
                if new_figure is not None and old_figure is not None:
                    cases.append(_speed_case(row, f"{metric} on {name}", new_figure, old_figure, limit, unit))
                elif new_figure is not old_figure:  # one of them is None
                    where = "now" if new_figure is None else "in the baseline"
                    notes.append(f"{row['name']} has no {metric} on {name} {where}, so that was not compared.")
    return cases


def _speed_case(
    row: Mapping[str, Any], metric: str, now: Mapping[str, Any], before: Mapping[str, Any], limit: float, unit: str
) -> dict[str, Any]:
    """Slower when the intervals of the two medians do not touch, and a regression when by more than the limit."""
    change = now["median"] / before["median"] - 1
    change_text = f"{shown(now['median'], unit)} {unit} after {shown(before['median'], unit)} ({100 * change:+.1f} %)"
    passed, verdict = True, "no real change"
    if min(now["confidence"], before["confidence"]) < LEAST_CONFIDENCE:
        verdict = "too few trials to tell"
    elif now["low"] > before["high"]:
        verdict = "faster"
    elif now["high"] < before["low"]:
        passed = bool(-change <= limit)
        verdict = "slower" if passed else "regressed"
    text = f"{change_text}: {verdict}" + ("" if passed else f", and the limit is {100 * limit:g} %")
    case = _case(row, metric, passed=passed, text=text, now=now["median"], before=before["median"], limit=limit)
    return {**case, "verdict": verdict}


def _growth_cases(
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    metric: str,
    key: str,
    limit: float | None,
    notes: list[str],
) -> list[dict[str, Any]]:
    cases = []
    for row, old in rows:
        now, before = row.get(key), old.get(key)
        if limit is None:
            continue
        if not now or not before:
            where = "in the baseline" if now else "now"
            notes.append(f"{row['name']} has no {metric} {where}, so that was not compared.")
            continue
        passed = bool(now / before - 1 <= limit)
        text = f"{shown(now, 'MB')} MB after {shown(before, 'MB')}, limit {100 * limit:g} % more"
        cases.append(_case(row, metric, passed=passed, text=text, now=now, before=before, limit=limit))
    return cases


def _quality_cases(report: Report, limits: Limits) -> list[dict[str, Any]]:
    """Every artifact's row against the limits, each in its worst domain.

    A figure that was not measured, or is no number, is over every limit.
    """
    limits_and_values = (
        ("mean KL", "mean_kl", limits.max_kl, "at most"),
        ("top-1", "top1", limits.min_top1, "at least"),
        ("perplexity ratio", "perplexity_ratio", limits.max_perplexity_ratio, "at most"),
    )
    cases = []
    for row in report["rows"]:
        if row["failure"] is not None or row.get("engine") != "jisu":
            continue
        for metric, key, limit, bound in limits_and_values:
            if limit is None:
                continue
            cases.append(_quality_case(row, metric, key, limit, bound))
        if limits.max_average_kl is not None:
            value = at(row, ("quality", "average", "mean_kl"))
            text = f"limit at most {limits.max_average_kl:g}"
            text = f"not measured, {text}" if value is None else f"{value:.4g}, the mean over all domains, {text}"
            passed = value is not None and bool(value <= limits.max_average_kl)
            cases.append(
                _case(row, "mean KL of all domains", passed=passed, text=text, now=value, limit=limits.max_average_kl)
            )
    return cases


def _quality_case(row: Mapping[str, Any], metric: str, key: str, limit: float, bound: str) -> dict[str, Any]:
    """The figure's worst domain against its limit, which is exceeded when the interval lies beyond it."""
    least = bound == "at least"
    sets = (row.get("quality") or {}).get("sets", {})
    judging = {name: figures for name, figures in sets.items() if figures.get("judges", True) and key in figures}
    if not judging:
        return _case(row, metric, passed=False, text=f"not measured, and the limit is {bound} {limit:g}", limit=limit)

    def reaches(name: str) -> float:
        """How far the figure is beyond its limit at least: the end of its interval that is on the limit's good side."""
        low, high = judging[name].get("intervals", {}).get(key, [judging[name][key]] * 2)
        beyond = limit - float(high) if least else float(low) - limit
        return math.inf if math.isnan(beyond) else beyond

    worst = max(judging, key=reaches)
    value = judging[worst][key]
    where = f"{worst}, the worst of {len(judging)} domains" if len(judging) > 1 else worst
    text = f"{value:.4g} on {where}, limit {bound} {limit:g}"
    return _case(row, metric, passed=reaches(worst) <= 0, text=text, now=value, limit=limit)


def _case(
    row: Mapping[str, Any],
    metric: str,
    *,
    passed: bool,
    text: str,
    now: float | None = None,
    before: float | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    return {
        "row": row["name"],
        "metric": metric,
        "passed": passed,
        "verdict": "within the limit" if passed else "regressed",
        "text": text,
        "now": now,
        "before": before,
        "limit": limit,
    }
