"""Is this worse than the baseline, or over a limit? A change counts when it is larger than the spread of both runs.

What cannot be compared (another machine, another schema, other workloads) is said and left out, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jisu.benchmarks.report.column import at, shown
from jisu.benchmarks.report.columns import headline_columns
from jisu.benchmarks.report.kinds import kind_named
from jisu.benchmarks.report.metric_case import metric_case
from jisu.benchmarks.report.schema import SCHEMA_VERSION, Report
from jisu.benchmarks.report.speed_verdict import judge_speeds
from jisu.exporter.contract.errors import InputError
from jisu.exporter.reports.junit import JunitCase

# By their fields, the options of limits of quality.
_OPTIONS = {
    "max_kl": "--max-kl",
    "max_average_kl": "--max-kl-mean",
    "min_top1": "--min-top1",
    "max_perplexity_ratio": "--max-ppl-ratio",
    "min_cosine": "--min-cosine",
    "min_recall": "--min-recall",
    "min_same_words": "--min-same-words",
}
_SHARES = ("min_top1", "min_cosine", "min_recall", "min_same_words")


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
    min_cosine: float | None = None
    min_recall: float | None = None
    min_same_words: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value < math.inf:
                option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
                raise InputError(
                    f"{option} is not a limit",
                    received=value,
                    allowed="0 or more",
                    fix=f"Correct {option}.",
                )
        for name in _SHARES:
            if (share := getattr(self, name)) is not None and share > 1:
                raise InputError(
                    f"{_OPTIONS[name]} is not a share",
                    received=share,
                    allowed="0 to 1, or 95%",
                    fix=f"Correct {_OPTIONS[name]}.",
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

    def check(self, *, model_kind: str, quality: bool) -> None:
        """Raise InputError for limits of figures that nobody will measure.

        Args:
            model_kind: what the contestants are for.
            quality: whether predictions are compared.
        """
        limited = [name for name in _OPTIONS if getattr(self, name) is not None]
        names = [_OPTIONS[name] for name in limited]
        if names and not quality:
            raise InputError(
                "These limits need a comparison of predictions",
                received=f"--no-quality with {', '.join(names)}",
                allowed="one or the other",
                fix="Leave --no-quality out.",
            )
        kind = kind_named(model_kind)
        foreign = ", ".join(_OPTIONS[name] for name in limited if name not in kind.limits)
        if foreign:
            raise InputError(
                f"Models for {model_kind} give {kind.predictions}, of which this is not measured",
                received=foreign,
                allowed=", ".join(option for name, option in _OPTIONS.items() if name in kind.limits),
                fix=f"Leave {foreign} out.",
            )


def judge(report: Report, baseline: Report | None, limits: Limits) -> dict[str, Any]:
    """Compare a report with a baseline and with limits.

    Returns:
        ``cases``, each with the row, the metric, whether it passed, and ``now``, ``before`` and ``limit`` where there
        are such numbers; ``not_compared``, what a limit or the baseline did not apply to and why, which nobody may
        overlook; ``notes`` on single rows and figures; ``baseline``, when and where it was measured.
    """
    notes: list[str] = []
    not_compared: list[str] = []
    cases = [metric_case(row, "measured", passed=False, text=f"failed: {row['failure']}") for row in _failed(report)]
    cases += _quality_cases(report, limits)
    if baseline is not None:
        known = _comparable_rows(report, baseline, notes, not_compared)
        if known:
            speeds = judge_speeds(report, baseline, known, limit=limits.max_slowdown)
            cases += speeds.cases
            notes += speeds.notes
            not_compared += speeds.not_compared
            if speeds.same_machine:
                cases += _growth_cases(known, "peak memory", "peak_bytes", limits.max_memory_growth, notes)
        cases += _growth_cases(known, "size", "size_bytes", limits.max_size_growth, notes)
    elif options := [option for option, value in limits.of_change.items() if value is not None]:
        not_compared.append(f"{', '.join(options)} had nothing to compare with: no --baseline was given.")
    about = None if baseline is None else {"created": baseline.get("created"), "machine": baseline.get("machine")}
    return {"cases": cases, "not_compared": not_compared, "notes": notes, "baseline": about}


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
    report: Report, baseline: Report, notes: list[str], not_compared: list[str]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(row now, row then) of every contestant that both have measured."""
    if baseline.get("schema_version") != SCHEMA_VERSION:
        not_compared.append(
            f"The baseline has the schema {baseline.get('schema_version')} and this report {SCHEMA_VERSION}: nothing "
            "of it was compared. Make it anew with this version."
        )
        return []
    before = {row["name"]: row for row in baseline["rows"]}
    now = {row["name"]: row for row in report["rows"]}
    notes += [f"{name} is not in the baseline." for name in now if name not in before]
    notes += [f"{name} of the baseline was not measured now." for name in before if name not in now]
    notes += [f"{name} had failed in the baseline." for name in now if name in before and before[name]["failure"]]
    known = [
        (row, before[name])
        for name, row in now.items()
        if name in before and row["failure"] is None and before[name]["failure"] is None
    ]
    if not known:
        not_compared.append("Nothing was compared with the baseline: none of its rows was measured now.")
    return known


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
        cases.append(metric_case(row, metric, passed=passed, text=text, now=now, before=before, limit=limit))
    return cases


def _quality_cases(report: Report, limits: Limits) -> list[dict[str, Any]]:
    """Every artifact's row against the limits, each in its worst domain.

    A figure that was not measured, or is no number, is over every limit.
    """
    limits_and_values = (
        ("mean KL", "mean_kl", limits.max_kl, "at most"),
        ("top-1", "top1", limits.min_top1, "at least"),
        ("perplexity ratio", "perplexity_ratio", limits.max_perplexity_ratio, "at most"),
        ("smallest cosine", "least_cosine", limits.min_cosine, "at least"),
    )
    cases = []
    for row in report["rows"]:
        if row["failure"] is not None or row.get("engine") != "jisu":
            continue
        for metric, key, limit, bound in limits_and_values:
            if limit is None:
                continue
            cases.append(_quality_case(row, metric, key, limit, bound))
        if limits.min_recall is not None:
            cases.append(_recall_case(row, limits.min_recall))
        if limits.min_same_words is not None:
            cases.append(_words_case(row, limits.min_same_words))
        if limits.max_average_kl is not None:
            value = at(row, ("quality", "average", "mean_kl"))
            text = f"limit at most {limits.max_average_kl:g}"
            text = f"not measured, {text}" if value is None else f"{value:.4g}, the mean over all domains, {text}"
            passed = value is not None and bool(value <= limits.max_average_kl)
            cases.append(
                metric_case(
                    row, "mean KL of all domains", passed=passed, text=text, now=value, limit=limits.max_average_kl
                )
            )
    return cases


def _recall_case(row: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """How many of what is found first are the source's, over all queries; below when the whole interval is."""
    ranking = at(row, ("quality", "ranking")) or {}
    value = ranking.get("recall_at_10")
    if value is None:
        text = f"not measured, and the limit is at least {limit:g}"
        return metric_case(row, "recall@10", passed=False, text=text, limit=limit)
    high = ranking.get("intervals", {}).get("recall_at_10", [value, value])[1]
    text = f"{value:.4g} over {ranking.get('queries')} queries, limit at least {limit:g}"
    return metric_case(row, "recall@10", passed=bool(high >= limit), text=text, now=value, limit=limit)


def _words_case(row: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """How many words of all recordings are the source's."""
    transcripts = at(row, ("quality", "transcripts")) or {}
    value, text = transcripts.get("same_words"), f"limit at least {100 * limit:g} %"
    text = (
        f"not measured, {text}" if value is None else f"{100 * value:.4g} % of {transcripts.get('words')} words, {text}"
    )
    passed = value is not None and bool(value >= limit)
    return metric_case(row, "same words", passed=passed, text=text, now=value, limit=limit)


def _quality_case(row: Mapping[str, Any], metric: str, key: str, limit: float, bound: str) -> dict[str, Any]:
    """The figure's worst domain against its limit, which is exceeded when the interval lies beyond it."""
    least = bound == "at least"
    sets = (row.get("quality") or {}).get("sets", {})
    judging = {name: figures for name, figures in sets.items() if figures.get("judges", True) and key in figures}
    if not judging:
        return metric_case(
            row, metric, passed=False, text=f"not measured, and the limit is {bound} {limit:g}", limit=limit
        )

    def reaches(name: str) -> float:
        """How far the figure is beyond its limit at least: the end of its interval that is on the limit's good side."""
        low, high = judging[name].get("intervals", {}).get(key, [judging[name][key]] * 2)
        beyond = limit - float(high) if least else float(low) - limit
        return math.inf if math.isnan(beyond) else beyond

    worst = max(judging, key=reaches)
    value = judging[worst][key]
    where = f"{worst}, the worst of {len(judging)} domains" if len(judging) > 1 else worst
    text = f"{value:.4g} on {where}, limit {bound} {limit:g}"
    return metric_case(row, metric, passed=reaches(worst) <= 0, text=text, now=value, limit=limit)
