"""What the reports of one kind of model show; a file of each family of kinds fills one in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jisu.benchmarks.report.column import Better, Column

# Titles of a figure of a domain: alone, or of the worst of several.
Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportedKind:
    """Columns, words and limits of one kind.

    Attributes:
        speeds: columns of the first table, of the workloads of a short and of a long one.
        speed: the speed that a contestant is known by, of the same two; higher is better.
        closeness: columns of the first table, of the path to a row's headline figures of quality.
        drawn: what speed is drawn against, of the same path: the first of them that a row has.
        measured_on: what the speeds of the first table were measured on, of the same two as ``speeds``.
        workload: what a workload's heading says of it: words before a number, its key in the record, words behind it.
        steps: the key of a workload's quantiles that are drawn, and what takes so long.
        of_workload: columns of a workload: title, unit, better, path.
        of_set: columns of one set of texts, likewise.
        limits: fields of `verdict.Limits` that are of this kind's figures of quality.
        predictions: what the kind gives, for messages.
    """

    speeds: Callable[[str, str], list[Column]]
    speed: Callable[[str, str], Column]
    closeness: Callable[[Path], list[Column]]
    drawn: Callable[[Path], list[Column]]
    measured_on: Callable[[str, str], str]
    workload: tuple[tuple[str, str, str], ...]
    steps: tuple[str, str]
    of_workload: Sequence[tuple[str, str, Better | None, Path]]
    of_set: Sequence[tuple[str, str, Better | None, str]]
    limits: frozenset[str]
    predictions: str


def measured(title: str, workload: str, *path: str, unit: str, better: Better | None = "high") -> Column:
    """A figure of one workload."""
    return Column(title=title, path=("measured", workload, *path), unit=unit, better=better)


def divergence_columns(quality: Path, noun: str = "domain") -> list[Column]:
    """KL divergence in the worst domain and on average, or of the only set of texts."""
    several = "worst" in quality
    path = ("quality", "average", "mean_kl")
    average = Column(title=f"mean KL, all {noun}s", path=path, unit="nats", better="low")
    return [divergence(quality, noun), *([average] if several else [])]


def divergence(quality: Path, noun: str = "domain") -> Column:
    """The headline divergence."""
    title = f"KL, worst {noun}" if "worst" in quality else "mean KL"
    return Column(title=title, path=(*quality, "mean_kl"), unit="nats", better="low")


def agreement(quality: Path, title: str = "top-1", noun: str = "domain") -> Column:
    """How often the likeliest answer is the source's."""
    title = f"{title}, worst {noun}" if "worst" in quality else title
    return Column(title=title, path=(*quality, "top1"), unit="%", better="high")


DIVERGENCE_LIMITS = frozenset({"max_kl", "max_average_kl", "min_top1"})
