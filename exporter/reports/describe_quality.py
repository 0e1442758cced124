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
    ("texts", "texts", "{}"),
)


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
    domains = [domain for domain in _domains(gate) if domain.get("judges", True)]
    if not isinstance(quality, Mapping) or len(domains) < 2:
        return None
    worst = max(domains, key=_badness)
    mean = sum(float(domain["mean_kl"]) for domain in domains) / len(domains)
    return (
        f"mean KL {float(worst['mean_kl']):.3g} nats in the worst domain, {worst.get('name')}; "
        f"{mean:.3g} over all {len(domains)} domains of held-out text"
    )


def _domains(gate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    quality = gate.get("quality")
    domains = quality.get("domains") if isinstance(quality, Mapping) else None
    if not isinstance(domains, list):
        return []
    return [domain for domain in domains if isinstance(domain, Mapping) and _number(domain.get("mean_kl")) is not None]


def _badness(domain: Mapping[str, Any]) -> tuple[bool, float]:
    value = _number(domain["mean_kl"])
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
