"""Puts a report into the repository: its files into a folder, its plot into an image, its table into the README.

    python -m benchmarks.report.publish report/ --results benchmarks/results/smollm2-135m --plot docs/compare.svg

The README has the table between two comments, which are kept. A report with paths of one machine is refused.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from benchmarks.report.html import render_html
from benchmarks.report.markdown import render_markdown
from benchmarks.report.plots import draw_pareto
from benchmarks.report.report import read_report, write_json, write_whole
from benchmarks.report.schema import HTML, JSON, MARKDOWN, Report
from exporter.contract.errors import InputError

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
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args()
    publish(arguments.report, results=arguments.results, plot=arguments.plot, readme=arguments.readme)


def publish(folder: Path, *, results: Path, plot: Path, readme: Path) -> None:
    """Render a report into the repository and show its table and plot; one that is there already is rendered anew.

    Raises:
        InputError: no report, one with absolute paths, or a README without the two comments.
    """
    report = read_report(folder / JSON)
    found = sorted(set(_PATH.findall(json.dumps(report))))
    if found:
        raise InputError(
            f"The report {folder} names paths of this machine",
            received=", ".join(found[:5]),
            allowed="paths relative to the repository",
            fix="Run `jisu compare` in the repository with such paths.",
        )
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{readme} has no place for the table", allowed=f"{BEGIN} and {END}", fix="Add the two.")
    results.mkdir(parents=True, exist_ok=True)
    write_json(report, results / JSON)
    write_whole(results / MARKDOWN, render_markdown(report))
    write_whole(results / HTML, render_html(report))
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(standalone_plot(report), encoding="utf-8")
    shown = f"\n{render_markdown(report)}\n![Decode speed against mean KL divergence]({plot.as_posix()})\n"
    readme.write_text(f"{before}{BEGIN}{shown}{END}{after}", encoding="utf-8")


def standalone_plot(report: Report) -> str:
    """Speed against quality as an SVG file, legible in light and dark; raises InputError without figures for it."""
    drawing = draw_pareto(report)
    if drawing is None:
        raise InputError(
            "The report has nothing to draw", allowed="two rows with speed and quality", fix="Run it anew."
        )
    head, _, body = drawing.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{_STYLE}{body}'


if __name__ == "__main__":
    main()
