"""The figures of every domain of held-out text, as a gate's record has them, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Key of a domain's record -> title and how its number is written.
_COLUMNS = (
    ("mean_kl", "mean KL", "{:.3g}"),
    ("top1", "top-1", "{:.3f}"),
    ("confident_changes", "confident changes", "{:.2%}"),
    ("perplexity_ratio", "perplexity ratio", "{:.3f}"),
    ("tokens", "tokens", "{}"),
    ("smallest", "smallest cosine", "{:.5f}"),
    ("mean", "mean cosine", "{:.5f}"),
    ("texts", "texts", "{}"),
)
# What domains are ranked by, and which end of it is the worse one: of vectors, the smallest cosine.
_RANKED = {"mean_kl": 1.0, "smallest": -1.0}


def describe_quality(gate: Mapping[str, Any]) -> list[str]:
    """A table, the worst domain first; nothing for a gate that judged no quality, or whose record is none of ours."""
    domains = _domains(gate)
    if not domains:
        return []
    shown = [column for column in _COLUMNS if any(column[0] in domain for domain in domains)]
    rows = [["domain", *(title for _, title, _ in shown)]]
    for domain in sorted(domains, key=_badness, reverse=True):
        cells = [_cell(domain, key, form) for key, _, form in shown]
        rows.append([f"{domain.get('name')}{'' if domain.get('judges', True) else ' (not judged)'}", *cells])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def describe_worst(gate: Mapping[str, Any]) -> str | None:
    """One sentence: the worst domain and the mean over all; None where there is only one domain, or none."""
    quality = gate.get("quality")
    if isinstance(quality, Mapping) and "vectors" in quality:
        return _describe_vectors(gate, quality)
    domains = [domain for domain in _domains(gate) if domain.get("judges", True)]
    if not isinstance(quality, Mapping) or len(domains) < 2:
        return None
    worst = max(domains, key=_badness)
    mean = sum(float(domain["mean_kl"]) for domain in domains) / len(domains)
    return (
        f"mean KL {float(worst['mean_kl']):.3g} nats in the worst domain, {worst.get('name')}; "
        f"{mean:.3g} over all {len(domains)} domains of held-out text"
    )


def _describe_vectors(gate: Mapping[str, Any], quality: Mapping[str, Any]) -> str | None:
    """What an embedding model's format costs: the worst domain, and what its vectors find."""
    domains, ranking = _domains(gate), quality.get("ranking")
    if not domains:
        return None
    worst = max(domains, key=_badness)
    text = f"cosine with the source's vectors {float(worst['smallest']):.5f} or more, lowest in {worst.get('name')}"
    if not isinstance(ranking, Mapping):
        return text
    recall, order = (_number(ranking.get(key)) for key in ("recall_at_10", "rank_correlation"))
    return f"{text}; recall@10 {recall:.3f}, rank correlation {order:.5f}" if recall and order else text


def _domains(gate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Records of domains that have a figure to be ranked by; of vectors, they lie one level deeper."""
    quality = gate.get("quality")
    record = quality.get("vectors", quality) if isinstance(quality, Mapping) else None
    domains = record.get("domains") if isinstance(record, Mapping) else None
    if not isinstance(domains, list):
        return []
    return [domain for domain in domains if isinstance(domain, Mapping) and _figure(domain) is not None]


def _figure(domain: Mapping[str, Any]) -> float | None:
    """How bad a domain is; None without a figure."""
    values = ((sign, _number(domain.get(key))) for key, sign in _RANKED.items())
    return next((sign * value for sign, value in values if value is not None), None)


def _badness(domain: Mapping[str, Any]) -> tuple[bool, float]:
    value = _figure(domain)
    assert value is not None, "domains without a figure were left out"
    return bool(domain.get("judges", True)), value if value == value else float("inf")


def _number(value: Any) -> float | None:
    """What JSON cannot hold as a number is spelled out there, see `exporter.gate.result.finite_json`."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _cell(domain: Mapping[str, Any], key: str, form: str) -> str:
    value = domain.get(key)
    if isinstance(value, str):
        return value
    text = "–" if value is None else form.format(value)
    ends = domain.get("intervals", {}).get(key) if key == "mean_kl" else None
    if not isinstance(ends, list) or len(ends) != 2 or ends[0] == ends[1] or isinstance(ends[0], str):
        return text
    return f"{text} ({form.format(ends[0])} to {form.format(ends[1])})"
