"""The tables of a report: which columns each has, which row of a column is the best, and what was measured on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jisu.benchmarks.report.column import Column, figure_path, interval_of
from jisu.benchmarks.report.kinds import reported_kind


def headline_columns(report: Mapping[str, Any]) -> list[Column]:
    """The columns of the first table: speeds, closeness, size and memory."""
    kind = reported_kind(report)
    return [
        *kind.speeds(*headline_workloads(report)),
        *kind.closeness(quality_path(report)),
        Column(title="size", path=("size_bytes",), unit="MB", better="low", exact=True),
        Column(title="peak memory", path=("peak_bytes",), unit="MB", better="low", exact=True),
        Column(title="load", path=("load_s",), unit="s", better="low"),
    ]


def shown_columns(report: Mapping[str, Any], columns: Sequence[Column]) -> list[Column]:
    """Those of which a row has a figure."""
    return [column for column in columns if any(figure_path(row, column) for row in report["rows"])]


def speed_column(report: Mapping[str, Any]) -> Column:
    """The speed that a contestant is known by."""
    return reported_kind(report).speed(*headline_workloads(report))


def closeness_column(report: Mapping[str, Any]) -> Column:
    """The figure of quality that speed is drawn against: the first of the kind's that a row has."""
    candidates = reported_kind(report).drawn(quality_path(report))
    return (shown_columns(report, candidates) or candidates)[0]


def headline_words(report: Mapping[str, Any]) -> str:
    """What the speeds of the first table were measured on."""
    short, long = headline_workloads(report)
    return reported_kind(report).measured_on(short, long)


def trials_words(report: Mapping[str, Any]) -> str:
    """What the trials are; on a cluster, where each row has its machine, they are not interleaved."""
    return "trials of each alone" if any("machine" in row for row in report["rows"]) else "interleaved trials"


def unit_words(count: object, words: str) -> str:
    """What is counted, in the plural but of one: ``images``, ``threads``."""
    return words.removesuffix("s") if count == 1 else words


def workload_columns(report: Mapping[str, Any], workload: str) -> list[Column]:
    """All figures of one workload."""
    return [
        Column(title=title, path=("measured", workload, *path), unit=unit, better=better)
        for title, unit, better, path in reported_kind(report).of_workload
    ]


def quality_columns(report: Mapping[str, Any], name: str) -> list[Column]:
    """All figures of one set of texts."""
    return [
        Column(title=title, path=("quality", "sets", name, key), unit=unit, better=better)
        for title, unit, better, key in reported_kind(report).of_set
    ]


def greedy_columns() -> list[Column]:
    """How far greedy answers go along with the source's."""
    greedy = ("quality", "greedy")
    return [
        Column(title="agreement", path=(*greedy, "agreement"), unit="%", better="high"),
        Column(title="near ties", path=(*greedy, "near_ties")),
        Column(title="tokens", path=(*greedy, "tokens")),
        Column(title="first answer with another token: prompt", path=(*greedy, "first_divergence", "prompt")),
        Column(title="position of that token in the answer", path=(*greedy, "first_divergence", "step")),
        Column(title="by how much the source prefers its own, logits", path=(*greedy, "first_divergence", "logit_gap")),
    ]


def headline_workloads(report: Mapping[str, Any]) -> tuple[str, str]:
    """The workloads of an answer's and of a prompt's speed: the first one, and the one with the longest prompt."""
    workloads = report["workloads"]
    longest = max(
        workloads, key=lambda item: (item["prompt_tokens"] if item["batch"] == 1 else 0, item.get("hears") == "joined")
    )
    return workloads[0]["name"], longest["name"]


def quality_path(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a row's headline quality is: its worst domain, or the first set of texts of a report without domains."""
    sets = [row["quality"] for row in report["rows"] if row.get("quality")]
    if any("worst" in quality for quality in sets):
        return ("quality", "worst")
    names = [name for quality in sets for name in quality.get("sets", {})]
    return ("quality", "sets", str(names[0])) if names else ("quality", "worst")


def kl_title(report: Mapping[str, Any]) -> str:
    """What the headline divergence is called."""
    return "KL, worst domain" if "worst" in quality_path(report) else "mean KL"


def best_rows(
    rows: Sequence[Mapping[str, Any]], column: Column, *, reference: str | None = None, source: bool = False
) -> set[int]:
    """The index of the row with the best figure, where its interval is apart from all others.

    Empty where the intervals overlap, where a figure that is not exact has none, and where fewer than two rows have
    the figure. A failed row is never the best, nor is a row the best at matching itself.

    Args:
        reference: name of the row that quality was measured against, if it is one.
        source: whether that is the source itself, which some rows run as it is.
    """
    matches = column.path[:1] == ("quality",)
    having = [index for index, row in enumerate(rows) if row["failure"] is None and figure_path(row, column)]
    others = [
        index
        for index in having
        if not (matches and (rows[index]["name"] == reference or (source and runs_source(rows[index]))))
    ]
    intervals = {index: ends for index in others if (ends := interval_of(rows[index], column)) is not None}
    if column.better not in ("high", "low") or len(having) < 2 or not intervals or len(intervals) < len(others):
        return set()
    sign = 1 if column.better == "high" else -1
    best = max(intervals, key=lambda index: sign * sum(intervals[index]))
    edge = min(sign * end for end in intervals[best])
    rivals = [max(sign * end for end in interval) for index, interval in intervals.items() if index != best]
    return {best} if all(rival < edge for rival in rivals) else set()


def runs_source(row: Mapping[str, Any]) -> bool:
    """Whether a row is the source itself, run by torch, which matches itself whatever it is worth."""
    return row.get("precision") == "source" or row.get("engine") == "transformers"


def reference_row(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `best_rows` has to know of what quality was measured against."""
    name = (report.get("reference") or {}).get("name")
    return {"reference": name, "source": name == "source"}
