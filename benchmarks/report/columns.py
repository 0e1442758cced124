"""What the tables show: which number of a row, under which title, in which unit, and which end of it is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jisu.exporter.contract.artifact import CLASSIFICATION, TEXT_TO_TEXT

Better = Literal["high", "low", "one"]
ARROWS: dict[Better | None, str] = {"high": "↑", "low": "↓", "one": "→ 1", None: ""}
_WAYS: dict[Better, str] = {"high": "higher is better", "low": "lower is better", "one": "nearer to 1 is closer"}
# Unit as it is written -> how many of the stored units it is, and how many digits count.
UNITS: dict[str, tuple[float, int]] = {
    "": (1.0, 4),
    "tok/s": (1.0, 4),
    "texts/s": (1.0, 4),
    "ms": (1e-3, 4),
    "s": (1.0, 4),
    "MB": (1e6, 4),
    "GB/s": (1.0, 3),
    "GB": (1e9, 4),
    "%": (1e-2, 4),
    "J": (1.0, 3),
    "nats": (1.0, 3),
    "millions": (1e6, 4),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of a row: ``path`` leads to it, and to a summary's median where it has several numbers.

    ``better`` is which end of it one wants, "one" where it should be 1 and no row is marked. ``exact`` figures need no
    interval to be compared.
    """

    title: str
    path: tuple[str, ...]
    unit: str = ""
    better: Better | None = None
    exact: bool = False

    @property
    def direction(self) -> str:
        """Which way is better, in words; empty where neither is."""
        return _WAYS[self.better] if self.better is not None else ""


def headline_columns(report: Mapping[str, Any]) -> list[Column]:
    """The columns of the first table: speed of short and of long texts, closeness, size and memory."""
    quality = quality_path(report)
    several = "worst" in quality
    # Lower than the source's is not closer to it.
    ratio = Column(title="perplexity over the source's", path=(*quality, "perplexity_ratio"), better="one")
    average = Column(title="mean KL, all domains", path=("quality", "average", "mean_kl"), unit="nats", better="low")
    return [
        *_speed_columns(report),
        Column(title=kl_title(report), path=(*quality, "mean_kl"), unit="nats", better="low"),
        *([average] if several else []),
        Column(title="top-1, worst domain" if several else "top-1", path=(*quality, "top1"), unit="%", better="high"),
        *([] if classifies(report) else [ratio]),
        Column(title="size", path=("size_bytes",), unit="MB", better="low", exact=True),
        Column(title="peak memory", path=("peak_bytes",), unit="MB", better="low", exact=True),
        Column(title="load", path=("load_s",), unit="s", better="low"),
    ]


def _speed_columns(report: Mapping[str, Any]) -> list[Column]:
    """An answer's speed and a long prompt's; or how fast short and long texts get their labels."""
    short, long = (("measured", name) for name in headline_workloads(report))
    if classifies(report):
        return [
            Column(title="short", path=(*short, "texts_per_s"), unit="texts/s", better="high"),
            Column(title="long", path=(*long, "texts_per_s"), unit="texts/s", better="high"),
            Column(title="latency", path=(*short, "latency_s", "p50"), unit="ms", better="low"),
            Column(title="latency p99", path=(*short, "latency_s", "p99"), unit="ms", better="low"),
        ]
    encode = Column(title="encode", path=(*short, "encode_s"), unit="ms", better="low")
    return [
        Column(title="decode", path=(*short, "decode_tokens_per_s"), unit="tok/s", better="high"),
        Column(title="prefill", path=(*long, "prefill_tokens_per_s"), unit="tok/s", better="high"),
        *([encode] if report.get("task") == TEXT_TO_TEXT else []),
        Column(title="first token", path=(*short, "time_to_first_token_s"), unit="ms", better="low"),
    ]


def speed_column(report: Mapping[str, Any]) -> Column:
    """The speed that a contestant is known by."""
    return _speed_columns(report)[0]


def headline_words(report: Mapping[str, Any]) -> str:
    """What the speeds of the first table were measured on."""
    short, long = headline_workloads(report)
    if classifies(report):
        return f"Short texts and latency on {short}, long ones on {long}"
    return f"Decode and first token on {short}, prefill on {long}"


def trials_words(report: Mapping[str, Any]) -> str:
    """What the trials are; on a cluster, where each row has its machine, they are not interleaved."""
    return "trials of each alone" if any("machine" in row for row in report["rows"]) else "interleaved trials"


def classifies(report: Mapping[str, Any]) -> bool:
    """Whether a report is of classifiers; one that does not say what it is of is of models that continue a text."""
    return bool(report.get("task") == CLASSIFICATION)


def workload_columns(workload: str) -> list[Column]:
    """All figures of one workload; a contestant has those of tokens or those of texts."""

    def column(title: str, *path: str, unit: str, better: Better | None = "low") -> Column:
        return Column(title=title, path=("measured", workload, *path), unit=unit, better=better)

    return [
        column("speed", "texts_per_s", unit="texts/s", better="high"),
        column("latency p50", "latency_s", "p50", unit="ms"),
        column("latency p90", "latency_s", "p90", unit="ms"),
        column("latency p99", "latency_s", "p99", unit="ms"),
        column("energy per text", "joules_per_text", unit="J"),
        column("decode", "decode_tokens_per_s", unit="tok/s", better="high"),
        column("prefill", "prefill_tokens_per_s", unit="tok/s", better="high"),
        column("encode", "encode_s", unit="ms"),
        column("first token", "time_to_first_token_s", unit="ms"),
        column("token p50", "inter_token_s", "p50", unit="ms"),
        column("token p90", "inter_token_s", "p90", unit="ms"),
        column("token p99", "inter_token_s", "p99", unit="ms"),
        column("end to end", "end_to_end_s", unit="s"),
        column("read per token", "bytes_per_token", unit="MB"),
        column("reading", "gb_per_s", unit="GB/s", better=None),
        column("of the bandwidth", "share_of_bandwidth", unit="%", better=None),
        column("energy per token", "joules_per_token", unit="J"),
    ]


def quality_columns(name: str) -> list[Column]:
    """All figures of one set of texts."""

    def column(title: str, path: str, *, unit: str = "", better: Better | None = "low") -> Column:
        return Column(title=title, path=("quality", "sets", name, path), unit=unit, better=better)

    return [
        column("mean KL", "mean_kl", unit="nats"),
        column("p99 KL", "p99_kl", unit="nats"),
        column("top-1", "top1", unit="%", better="high"),
        column("near ties", "near_ties", better=None),
        column("perplexity", "perplexity", better=None),
        column("over the source's", "perplexity_ratio", better="one"),
        column("confident changes", "confident_changes", unit="%"),
        column("tokens", "tokens", better=None),
        column("texts", "texts", better=None),
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
    longest = max(workloads, key=lambda item: item["prompt_tokens"] if item["batch"] == 1 else 0)
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


def figure_path(row: Mapping[str, Any], column: Column) -> tuple[str, ...] | None:
    """Where the figure itself is within the row, a summary's median for a summary; None where there is no number."""
    path, value = column.path, at(row, column.path)
    if isinstance(value, Mapping):
        path, value = (*path, "median"), value.get("median")
    return path if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def at(data: Any, path: Sequence[str]) -> Any:
    """What a path of keys and indices leads to, None where it ends."""
    for key in path:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            return None
    return data


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


def interval_of(row: Mapping[str, Any], column: Column) -> tuple[float, float] | None:
    """Both ends of a figure's interval; the figure itself twice where it is exact, None where there is no interval."""
    path = figure_path(row, column)
    if path is None:
        return None
    if path[-1] == "median":
        ends = at(row, (*path[:-1], "low")), at(row, (*path[:-1], "high"))
    elif column.exact:
        ends = (at(row, path), at(row, path))
    else:
        intervals = at(row, (*path[:-1], "intervals", path[-1]))
        ends = tuple(intervals) if isinstance(intervals, list) and len(intervals) == 2 else (None, None)
    return ends if all(isinstance(end, (int, float)) for end in ends) else None


def shown(value: float, unit: str) -> str:
    """A number in its unit, without the unit's name: with its digits, no exponent where one can read it."""
    factor, digits = UNITS[unit]
    scaled = value / factor
    if isinstance(value, int) and factor == 1.0:
        return str(value)
    if scaled and (abs(scaled) < 1e-4 or abs(scaled) >= 1e7):
        return f"{scaled:.2e}"
    if round(abs(scaled), digits) < 1:
        return f"{scaled:.{digits}g}"
    return f"{scaled:.{max(0, digits - len(str(int(max(1.0, abs(scaled))))))}f}"
