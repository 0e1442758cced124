"""Puts a report into the repository: its files into a folder, its plot into an image, its tables into two pages.

    python -m benchmarks.report.publish report/ --results benchmarks/results/smollm2-135m --plot docs/compare.svg \\
        --rows "int8 (ort-cpu)" "int4 (ort-cpu)"

The page has the whole table between two comments, which are kept, and the README a few rows and the plot. A report with
paths of one machine is refused.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jisu.benchmarks.report.columns import kl_title
from jisu.benchmarks.report.html import render_html
from jisu.benchmarks.report.markdown import render_markdown, render_rows
from jisu.benchmarks.report.plots import draw_pareto
from jisu.benchmarks.report.report import read_report, write_json, write_whole
from jisu.benchmarks.report.schema import HTML, JSON, MARKDOWN, Report
from jisu.exporter.contract.errors import InputError

BEGIN, END = "<!-- jisu compare: begin -->", "<!-- jisu compare: end -->"
# The page's colours: the drawing is in the text colour, and an image of its own has no page around it.
_STYLE = (
    "<style>svg{color:#1b1f24;font-family:system-ui,sans-serif}"
    "@media (prefers-color-scheme: dark){svg{color:#e6edf3}}</style>"
)
_PATH = re.compile(r"(?<![\w.:/<])/(?:tmp|home|root|work|var|mnt|Users)/[^\s\"',;]*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="folder that `jisu compare` has written")
    parser.add_argument("--results", type=Path, required=True, help="folder for the report's files")
    parser.add_argument("--plot", type=Path, required=True, help="SVG of speed against quality")
    parser.add_argument("--page", type=Path, default=Path("docs/compare.md"), help="page that gets the whole table")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--rows", nargs="+", metavar="NAME", required=True, help="rows that the README shows")
    arguments = parser.parse_args()
    try:
        publish(
            arguments.report,
            results=arguments.results,
            plot=arguments.plot,
            page=arguments.page,
            readme=arguments.readme,
            rows=arguments.rows,
        )
    except InputError as error:
        parser.error(str(error))


def publish(folder: Path, *, results: Path, plot: Path, page: Path, readme: Path, rows: Sequence[str]) -> None:
    """Render a report into the repository and show its tables and plot; one that is there already is rendered anew.

    Raises:
        InputError: no report, one with absolute paths or without the rows, or a page without the two comments.
    """
    report = read_report(folder / JSON)
    paths = sorted(set(_PATH.findall(json.dumps(report))))
    if paths:
        raise InputError(
            f"The report {folder} names paths of this machine",
            received=", ".join(paths[:5]),
            allowed="paths relative to the repository",
            fix="Run `jisu compare` in the repository with such paths.",
        )
    few = render_whole(report, partial(render_rows, names=rows, titles=readme_columns(report)))
    markdown, html, drawing = (render_whole(report, one) for one in (render_markdown, render_html, standalone_plot))
    # Pages lie where links start from; the plot is named from there.
    image = f"![Decode speed against mean KL divergence]({plot.as_posix()})"
    pages = {page: _filled(page, f"\n{markdown}"), readme: _filled(readme, f"\n{few}\n{image}\n")}
    results.mkdir(parents=True, exist_ok=True)
    write_json(report, results / JSON)
    write_whole(results / MARKDOWN, markdown)
    write_whole(results / HTML, html)
    plot.parent.mkdir(parents=True, exist_ok=True)
    write_whole(plot, drawing)
    for path, text in pages.items():
        write_whole(path, text)


def readme_columns(report: Report) -> tuple[str, ...]:
    """Titles of the columns that the README shows: the worst domain beside the mean, where there are domains."""
    quality = kl_title(report)
    beside = "top-1" if quality == "mean KL" else "mean KL, all domains"
    return ("decode", "prefill", quality, beside, "size")


def _filled(path: Path, shown: str) -> str:
    """The page's text with something else between the two comments."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(
            f"{path} has no place for the table",
            received="a page without the two marks",
            allowed=f"{BEGIN} and {END}",
            fix="Add both lines to the page.",
        )
    return f"{before}{BEGIN}{shown}{END}{after}"


def render_whole(report: Report, render: Callable[[Report], str]) -> str:
    """What a report is rendered to.

    Raises:
        InputError: parts of the report are missing or are not what they have to be.
    """
    import jinja2

    try:
        return render(report)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.TemplateError) as error:
        raise InputError(
            "The report is damaged: it cannot be rendered",
            received=f"{type(error).__name__}: {error}",
            allowed="a report.json that `jisu compare` has written",
            fix="Create the report again with `jisu compare`.",
        ) from error


def standalone_plot(report: Report) -> str:
    """Speed against quality as an SVG file, legible in light and dark; raises InputError without figures for it."""
    drawing = draw_pareto(report)
    if drawing is None:
        raise InputError(
            "The report has nothing to draw",
            received="fewer than two rows with speed and quality",
            allowed="two rows with speed and quality",
            fix="Run the comparison again.",
        )
    head, _, body = drawing.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{body}'


if __name__ == "__main__":
    main()
