"""The report as one HTML file that opens from the disk: no network, no script, plots inlined.

Every number is printed by `_Figures.number`, which takes it from the report by its path and writes the path beside it:
the page cannot show a figure that report.json does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jisu.benchmarks.report.column import ARROWS, Column, at, figure_path, shown
from jisu.benchmarks.report.columns import (
    best_rows,
    greedy_columns,
    headline_columns,
    headline_words,
    quality_columns,
    reference_row,
    trials_words,
    unit_words,
    workload_columns,
)
from jisu.benchmarks.report.kinds import reported_kind
from jisu.benchmarks.report.plots import draw_memory, draw_operators, draw_pareto, draw_token_times

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_html(report: Mapping[str, Any]) -> str:
    """Render a report as a page."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    figures = _Figures(report)
    plots = {
        "pareto": draw_pareto(report),
        "times": draw_token_times(report),
        "memory": draw_memory(report),
        "operators": draw_operators(report),
    }
    # In the order in which they were measured, each once.
    sets = list(dict.fromkeys(name for row in report["rows"] for name in (row.get("quality") or {}).get("sets", {})))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        rows=report["rows"],
        number=figures.number,
        headline=figures.table(headline_columns(report)),
        workloads=[
            (item["name"], place, figures.table(workload_columns(report, item["name"])))
            for place, item in enumerate(report["workloads"])
        ],
        qualities=[(name, figures.table(quality_columns(report, name))) for name in sets],
        greedy=figures.table(greedy_columns()),
        plots={name: Markup(svg) for name, svg in plots.items() if svg is not None},
        measured_on=headline_words(report),
        trials_words=trials_words(report),
        parts=reported_kind(report).workload,
        unit_words=unit_words,
        step=reported_kind(report).steps[1],
    )


class _Figures:
    """Prints the numbers of one report."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = report

    def number(self, path: str | Sequence[str], unit: str = "") -> Any:
        """The number at a path, such as ``rows/0/size_bytes``, in a unit; nothing where there is none."""
        from markupsafe import Markup

        keys = path.split("/") if isinstance(path, str) else list(path)
        value = at(self._report, keys)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return "" if value is None else str(value)
        return Markup('<data value="{}" data-path="{}" data-unit="{}">{}</data>').format(
            repr(value), "/".join(keys), unit, shown(value, unit)
        )

    def table(self, columns: Sequence[Column]) -> dict[str, Any]:
        """Titles and, for each row, the cells: text, whether it is the column's best, and its interval."""
        rows = self._report["rows"]
        best = [best_rows(rows, column, **reference_row(self._report)) for column in columns]
        used = [
            place for place, column in enumerate(columns) if any(figure_path(row, column) is not None for row in rows)
        ]
        lines = []
        for index, row in enumerate(rows):
            cells = []
            for place in used:
                column = columns[place]
                path = figure_path(row, column)
                full = None if path is None else ("rows", str(index), *path)
                cells.append(
                    {
                        "text": "" if full is None else self.number(full, columns[place].unit),
                        "best": index in best[place],
                        "low": self._end(full, 0, column),
                        "high": self._end(full, 1, column),
                        "title": " ".join(filter(None, (column.title, column.unit, ARROWS[column.better]))),
                    }
                )
            lines.append({"row": row, "cells": cells})
        titles = [(columns[place].title, columns[place].unit, columns[place].direction) for place in used]
        return {"titles": titles, "lines": lines}

    def _end(self, path: tuple[str, ...] | None, end: int, column: Column) -> Any:
        """An end of a figure's interval, the low one for 0; nothing for a single number."""
        if path is None:
            return ""
        if path[-1] == "median":
            return self.number((*path[:-1], ("low", "high")[end]), column.unit)
        return self.number((*path[:-1], "intervals", path[-1], str(end)), column.unit)
