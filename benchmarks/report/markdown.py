"""The report as Markdown: the first table, what failed, and the machine; short enough for a comment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jisu.benchmarks.report.column import ARROWS, Column, at, figure_path, interval_of, shown
from jisu.benchmarks.report.columns import (
    best_rows,
    headline_columns,
    headline_words,
    reference_row,
    shown_columns,
    trials_words,
    unit_words,
)
from jisu.exporter.contract.errors import InputError


def render_rows(
    report: Mapping[str, Any], *, names: Sequence[str] | None = None, titles: Sequence[str] | None = None
) -> str:
    """The first table, or the named rows and columns of it; the best of each column among all rows is bold.

    Raises:
        InputError: a row or column that the report does not have.
    """
    rows = report["rows"]
    columns = headline_columns(report)
    _require("row", names, [str(row["name"]) for row in rows])
    _require("column", titles, [column.title for column in columns])
    known = shown_columns(report, columns) or columns
    columns = [column for column in known if titles is None or column.title in titles]
    best = [best_rows(rows, column, **reference_row(report)) for column in columns]
    head = ["", *(f"{column.title} {column.unit} {ARROWS[column.better]}".rstrip() for column in columns)]
    lines = [_line(head), "|---|" + "---:|" * len(columns)]
    for index, row in enumerate(rows):
        if names is not None and str(row["name"]) not in names:
            continue
        cells = [str(row["name"])]
        for column, winners in zip(columns, best, strict=True):
            path = figure_path(row, column)
            cell = "failed" if row["failure"] is not None else ""
            if path is not None:
                cell = shown(at(row, path), column.unit)
            cell = f"**{cell}**" if index in winners else cell
            cells.append(cell + _interval(row, column))
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def render_markdown(report: Mapping[str, Any]) -> str:
    """Render a report; the best of each column is bold."""
    rows = report["rows"]
    verdict = report.get("verdict") or {"cases": (), "notes": ()}
    lines = [f"> **Not compared:** {_plain(text)}\n" for text in verdict.get("not_compared", ())]
    if (model := report.get("model")) is not None:
        lines += [f"### {_plain(model['name'])}", ""]
    lines += [render_rows(report).rstrip("\n")]
    settings, machine = report["settings"], report["machine"]
    lines += [
        "",
        f"{headline_words(report)}; medians of {settings['trials']} {trials_words(report)}, "
        f"{settings['threads']} {unit_words(settings['threads'], 'threads')}, {machine['processor']}. "
        "↑ higher is better, ↓ lower is better, "
        "→ 1 nearer to 1 is closer; intervals in parentheses; the best is bold where its interval is apart from all "
        "others.",
    ]
    reference = report["reference"] or {}
    if reference.get("description"):
        lines += [f"Quality against {reference['description']}."]
    lines += [f"- No quality against {_plain(problem)}" for problem in reference.get("problems", ())]
    lines += [f"- **{row['name']} failed**: {_plain(row['failure'])}" for row in rows if row["failure"] is not None]
    lines += [f"- {name} was not compared: {_plain(why)}" for name, why in report.get("missing_peers", {}).items()]
    if verdict["cases"] or verdict["notes"]:
        lines += ["", *(_case(case) for case in verdict["cases"])]
        lines += [f"- {_plain(note)}" for note in verdict["notes"]]
    lines += ["", f"`{report['command']}`"]
    return "\n".join(lines) + "\n"


def _interval(row: Mapping[str, Any], column: Column) -> str:
    """A figure's interval behind it; nothing for an exact one."""
    ends = None if column.exact else interval_of(row, column)
    return "" if ends is None else f" ({shown(ends[0], column.unit)}–{shown(ends[1], column.unit)})"


def _require(what: str, requested: Sequence[str] | None, known: Sequence[str]) -> None:
    missing = [name for name in requested or () if name not in known]
    if missing:
        raise InputError(
            f"The report has no such {what}",
            received=", ".join(missing),
            allowed=", ".join(known),
            fix="Choose from these.",
        )


def _case(case: Mapping[str, Any]) -> str:
    mark = "" if case["passed"] else "**regressed**: "
    return f"- {mark}{_plain(case['row'])}, {case['metric']}: {_plain(case['text'])}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that stays in its cell and its line."""
    return " ".join(text.split()).replace("|", "\\|")
