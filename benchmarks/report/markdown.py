"""The report as Markdown: the first table, what failed, and the machine; short enough for a comment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.columns import at, best_rows, figure_path, headline_columns, headline_words, shown, trials_words


def render_markdown(report: Mapping[str, Any]) -> str:
    """Render a report; the best of each column is bold."""
    rows = report["rows"]
    columns = headline_columns(report)
    best = [best_rows(rows, column) for column in columns]
    head = ["", *(f"{column.title} {column.unit}".strip() for column in columns)]
    lines = [_line(head), "|---|" + "---:|" * len(columns)]
    for index, row in enumerate(rows):
        cells = [str(row["name"])]
        for column, winners in zip(columns, best, strict=True):
            path = figure_path(row, column)
            cell = "failed" if row["failure"] is not None else ""
            if path is not None:
                cell = shown(at(row, path), column.unit)
            cells.append(f"**{cell}**" if index in winners else cell)
        lines.append(_line(cells))
    settings, machine = report["settings"], report["machine"]
    lines += [
        "",
        f"{headline_words(report)}; medians of {settings['trials']} {trials_words(report)}, "
        f"{settings['threads']} threads, {machine['processor']}.",
    ]
    reference = report["reference"] or {}
    if reference.get("description"):
        lines += [f"Quality against {reference['description']}."]
    lines += [f"- No quality against {_plain(problem)}" for problem in reference.get("problems", ())]
    lines += [f"- **{row['name']} failed**: {_plain(row['failure'])}" for row in rows if row["failure"] is not None]
    lines += [f"- {name} was not compared: {_plain(why)}" for name, why in report.get("missing_peers", {}).items()]
    verdict = report.get("verdict")
    if verdict is not None:
        lines += ["", *(_case(case) for case in verdict["cases"])]
        lines += [f"- {_plain(note)}" for note in verdict["notes"]]
    lines += ["", f"`{report['command']}`"]
    return "\n".join(lines) + "\n"


def _case(case: Mapping[str, Any]) -> str:
    mark = "" if case["passed"] else "**regressed**: "
    return f"- {mark}{_plain(case['row'])}, {case['metric']}: {_plain(case['text'])}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that stays in its cell and its line."""
    return " ".join(text.split()).replace("|", "\\|")
