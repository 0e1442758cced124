"""What is shown of models that read whole texts: vectors, labels, ranks, tags, words and answers."""

from __future__ import annotations

from jisu.benchmarks.report.column import Column
from jisu.benchmarks.report.reported_kind import (
    DIVERGENCE_LIMITS,
    Path,
    ReportedKind,
    agreement,
    divergence,
    divergence_columns,
    measured,
)

_RANKING = ("quality", "ranking")
RECALL = Column(title="recall@10", path=(*_RANKING, "recall_at_10"), unit="%", better="high")
CORRELATION = Column(title="rank correlation", path=(*_RANKING, "rank_correlation"), better="high")


def _speed(short: str, long: str) -> Column:
    return measured("short", short, "texts_per_s", unit="texts/s")


def _speeds(short: str, long: str) -> list[Column]:
    """How fast short and long texts are read."""
    return [
        _speed(short, long),
        *([measured("long", long, "texts_per_s", unit="texts/s")] if long != short else []),
        measured("latency", short, "latency_s", "p50", unit="ms", better="low"),
        measured("latency p99", short, "latency_s", "p99", unit="ms", better="low"),
    ]


def _measured_on(short: str, long: str) -> str:
    return f"Short texts and latency on {short}" + (f", long ones on {long}" if long != short else "")


def _least_cosine(quality: Path) -> Column:
    title = "smallest cosine, worst domain" if "worst" in quality else "smallest cosine"
    return Column(title=title, path=(*quality, "least_cosine"), better="high")


def _of_vectors(quality: Path) -> list[Column]:
    average = Column(title="mean cosine, all domains", path=("quality", "average", "mean_cosine"), better="high")
    return [RECALL, CORRELATION, _least_cosine(quality), average]


def _of_labels(quality: Path) -> list[Column]:
    return [*divergence_columns(quality), agreement(quality), RECALL, CORRELATION]


def _of_tokens(quality: Path) -> list[Column]:
    return [*divergence_columns(quality), agreement(quality, "agreement")]


LABELS = ReportedKind(
    speeds=_speeds,
    speed=_speed,
    closeness=_of_labels,
    drawn=lambda quality: [divergence(quality)],
    measured_on=_measured_on,
    workload=(("", "prompt_tokens", "tokens a text"), ("", "calls", "calls a trial"), ("batch", "batch", "")),
    steps=("latency_quantiles_s", "call"),
    of_workload=(
        ("speed", "texts/s", "high", ("texts_per_s",)),
        ("latency p50", "ms", "low", ("latency_s", "p50")),
        ("latency p90", "ms", "low", ("latency_s", "p90")),
        ("latency p99", "ms", "low", ("latency_s", "p99")),
        ("energy per text", "J", "low", ("joules_per_text",)),
    ),
    of_set=(
        ("mean KL", "nats", "low", "mean_kl"),
        ("p99 KL", "nats", "low", "p99_kl"),
        ("top-1", "%", "high", "top1"),
        ("near ties", "", None, "near_ties"),
        ("texts", "", None, "texts"),
    ),
    limits=DIVERGENCE_LIMITS | {"min_recall"},
    predictions="labels",
)
TOKENS = ReportedKind(
    **{
        **vars(LABELS),
        "closeness": _of_tokens,
        "of_set": (
            ("mean KL", "nats", "low", "mean_kl"),
            ("agreement", "%", "high", "top1"),
            ("texts", "", None, "texts"),
        ),
        "limits": DIVERGENCE_LIMITS,
        "predictions": "tags, words or answers",
    }
)
VECTORS = ReportedKind(
    **{
        **vars(LABELS),
        "closeness": _of_vectors,
        "drawn": lambda quality: [RECALL, _least_cosine(quality)],
        "of_set": (
            ("smallest cosine", "", "high", "least_cosine"),
            ("mean cosine", "", "high", "mean_cosine"),
            ("texts", "", None, "texts"),
        ),
        "limits": frozenset({"min_cosine", "min_recall"}),
        "predictions": "vectors",
    }
)
