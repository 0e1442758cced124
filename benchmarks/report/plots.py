"""The report's plots as SVG to put into a page: text stays text, and takes the page's colour in light and dark."""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.report.column import Column, at
from jisu.benchmarks.report.columns import closeness_column, headline_workloads, speed_column
from jisu.benchmarks.report.kinds import reported_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in this, shown in the text colour of the page.
_INK = "#010203"
# Legible on white and on black; Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
_NAMED_OPERATORS = 6
_SPEEDS = {"tok/s": "tokens", "texts/s": "texts", "s of sound/s": "seconds of sound"}
_WIDTH = 7.2  # inches
# Below this a divergence is the noise of float32: the axis is linear there.
_LEAST_KL = 1e-4
# Of a name beside its point, in points: a letter, a line, and how far above the point the name may stand.
_LETTER, _LINE = 4.9, 11.0
_RISES = (5.0, -14.0, *(5.0 + 11.0 * step for step in range(1, 24)), -25.0, -36.0)


def row_colour(index: int, rows: int) -> str:
    """A row's colour, which no other row of the report has; legible on white and on black."""
    if rows <= len(_COLOURS):
        return _COLOURS[index]
    # Around the circle of hues, alternately darker and lighter, so that neighbours are told apart.
    red, green, blue = colorsys.hls_to_rgb(index / rows, 0.42 + 0.16 * (index % 2), 0.75 - 0.2 * (index % 3) / 2)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def draw_pareto(report: Mapping[str, Any]) -> str | None:
    """Speed against closeness, with the Pareto front; None when fewer than two rows have both."""
    column, close = speed_column(report), closeness_column(report)
    speed, quality = column.path, close.path
    rows = report["rows"]
    points = [
        (index, at(row, speed), at(row, quality))
        for index, row in enumerate(rows)
        if at(row, (*speed, "median")) is not None and at(row, quality) is not None
    ]
    if len(points) < 2:
        return None
    figure = _figure(3.6 + 0.13 * max(0, len(points) - 4))
    axes = figure.subplots()
    front = sorted((at(rows[i], (*speed, "median")), at(rows[i], quality)) for i in report["pareto"])
    axes.step(*zip(*front, strict=True), where="pre", color=_INK, alpha=0.45, linewidth=1.2, linestyle="--")
    for index, summary, value in points:
        colour = row_colour(index, len(rows))
        median = summary["median"]
        spread = [[median - summary["low"]], [summary["high"] - median]]
        # Not cut off where it lies on an axis: a divergence of 0 does.
        look: dict[str, Any] = {"color": colour, "markersize": 7, "capsize": 3, "clip_on": False}
        drawn = axes.errorbar([median], [value], xerr=spread, fmt="o", **look)
        drawn.lines[0].set_gid(f"pareto-{index}")
    _scale_closeness(axes, [value for _, _, value in points], close)
    axes.set_xlim(left=0)
    axes.set_xlim(right=1.22 * max(summary["high"] for _, summary, _ in points))
    _label_points(axes, [(rows[index]["name"], summary, value) for index, summary, value in points])
    axes.set_xlabel(f"{column.title}, {_SPEEDS[column.unit]} per second (further right is faster)")
    unit = "" if not close.unit or close.better == "high" else f", {close.unit}"
    axes.set_ylabel(f"{close.title}{unit} ({'higher' if close.better == 'high' else 'lower'} is closer)")
    return _svg(figure, "pareto")


def _scale_closeness(axes: Axes, values: Sequence[float], column: Column) -> None:
    """Divergences from 0 up, of many sizes; shares up to 1, which is the top."""
    if column.better != "high":
        axes.set_yscale("symlog", linthresh=_LEAST_KL)
        axes.set_ylim(bottom=0, top=2 * max(_LEAST_KL, *values))
        return
    reach = max(1e-3, 1 - min(values))
    axes.set_ylim(bottom=1 - 1.25 * reach, top=1 + 0.05 * reach)


def _label_points(axes: Axes, points: Sequence[tuple[str, Mapping[str, float], float]]) -> None:
    """Write each point's name where it covers no other name, no point and no interval, as near as that is possible.

    Above the point first, then below and higher up, to its right and to its left; a line leads to any but the first.

    Args:
        points: name, summary of the speed, and closeness.
    """
    scale = 72 / axes.figure.dpi

    def place(speed: float, kl: float) -> tuple[float, float]:
        x, y = axes.transData.transform((speed, kl)) * scale
        return float(x), float(y)

    occupied = []
    for _, summary, kl in points:
        (low, y), (high, _) = place(summary["low"], kl), place(summary["high"], kl)
        occupied.append((low - 3, y - 3, high + 3, y + 3))
    left_edge, lower_edge = place(axes.get_xlim()[0], 0.0)
    for name, summary, kl in sorted(points, key=lambda item: -item[1]["median"]):
        x, y = place(summary["median"], kl)
        width = _LETTER * len(name)
        # Beyond the edges stand the axes' own numbers.
        rises = [rise for rise in _RISES if y + rise > lower_edge]
        offsets = [(side, rise) for rise in rises for side in (6.0, -6.0 - width) if x + side > left_edge]
        boxes = {
            offset: (x + offset[0], y + offset[1], x + offset[0] + width, y + offset[1] + _LINE) for offset in offsets
        }
        free = [offset for offset, box in boxes.items() if not any(_overlap(box, other) for other in occupied)]
        (side, rise) = free[0] if free else offsets[0]
        occupied.append(boxes[side, rise])
        beside = (side, rise) == offsets[0]
        line = (
            None
            if beside
            else {"arrowstyle": "-", "color": _INK, "alpha": 0.4, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        )
        axes.annotate(
            name,
            (summary["median"], kl),
            xytext=(side, rise),
            textcoords="offset points",
            color=_INK,
            fontsize=8.5,
            arrowprops=line,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_token_times(report: Mapping[str, Any]) -> str | None:
    """How long a token, or a classifier's call, takes: box of the middle half, whiskers from 5 to 95 %.

    None without a row that has them.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    workload = headline_workloads(report)[0]
    quantiles, what = reported_kind(report).steps
    series = [
        (index, dict(map(tuple, steps)))
        for index, row in enumerate(report["rows"])
        if (steps := at(row, ("measured", workload, quantiles))) is not None
    ]
    if not series:
        return None
    figure = _figure(0.9 + 0.42 * len(series))
    axes = figure.subplots()
    for place, (index, steps) in enumerate(series):
        colour = row_colour(index, len(report["rows"]))
        names = {"whislo": 0.05, "q1": 0.25, "med": 0.5, "q3": 0.75, "whishi": 0.95}
        box = {name: 1e3 * steps[share] for name, share in names.items()}
        line = {"color": colour}
        axes.bxp(
            [{**box, "fliers": [], "label": report["rows"][index]["name"]}],
            positions=[place],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.55, "edgecolor": colour, "gid": f"times-{index}"},
            medianprops={"color": _INK},
            whiskerprops=line,
            capprops=line,
        )
    axes.set_xscale("log")
    least, most = axes.get_xlim()
    # Beyond three decades the numbers between the powers of ten would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if most < 1e3 * least else (1.0,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.invert_yaxis()
    axes.set_xlabel(f"milliseconds per {what} on {workload}")
    return _svg(figure, "times")


def draw_operators(report: Mapping[str, Any]) -> str | None:
    """The share of each operator in a decode step; None without a row that was profiled."""
    rows = [(index, row) for index, row in enumerate(report["rows"]) if isinstance(row.get("operators"), list)]
    if not rows:
        return None
    totals: dict[str, float] = {}
    for _, row in rows:
        for item in row["operators"]:
            totals[item["operator"]] = totals.get(item["operator"], 0.0) + item["share"]
    named = sorted(totals, key=lambda name: -totals[name])[:_NAMED_OPERATORS]
    figure = _figure(1.5 + 0.42 * len(rows))
    axes = figure.subplots()
    for place, (index, row) in enumerate(rows):
        shares = {item["operator"]: item["share"] for item in row["operators"]}
        rest = sum(share for name, share in shares.items() if name not in named)
        left = 0.0
        for number, name in enumerate([*named, "all others"]):
            width = 100 * (rest if number == len(named) else shares.get(name, 0.0))
            label = name if place == 0 else None
            bars = axes.barh([place], [width], left=left, height=0.6, color=_COLOURS[number], label=label)
            bars[0].set_gid(f"operators-{index}-{number}")
            left += width
    axes.set_yticks(range(len(rows)), [row["name"] for _, row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the time of a decode step")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=_INK, fontsize=8.5)
    return _svg(figure, "operators")


def draw_memory(report: Mapping[str, Any]) -> str | None:
    """Peak resident memory and size on the disk; None without a row that has either."""
    rows = [(i, row) for i, row in enumerate(report["rows"]) if row["failure"] is None]
    if not rows:
        return None
    figure = _figure(1.1 + 0.5 * len(rows))
    axes = figure.subplots()
    for place, (index, row) in enumerate(rows):
        for offset, key, colour in ((-0.19, "peak_bytes", _COLOURS[0]), (0.19, "size_bytes", _COLOURS[4])):
            bars = axes.barh([place + offset], [(row[key] or 0) / 1e6], height=0.36, color=colour)
            bars[0].set_gid(f"memory-{index}-{key}")
    axes.set_yticks(range(len(rows)), [row["name"] for _, row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("MB: peak resident memory (blue) and size on the disk (orange)")
    return _svg(figure, "memory")


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _svg(figure: Figure, name: str) -> str:
    """The drawing without XML head, fixed size and colours of its own; ids begin with ``name``."""
    import matplotlib

    for axes in figure.axes:
        axes.grid(visible=True, color=_INK, alpha=0.15, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_INK, which="both")
        for edge, spine in axes.spines.items():
            spine.set_edgecolor(_INK)
            spine.set_visible(edge in ("left", "bottom"))
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
    stream = io.StringIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 9.5,
        "font.family": ["sans-serif"],
    }
    with matplotlib.rc_context(settings):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" class="plot {name}">', text, count=1
    )
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href|href)="#([^"]*)"', rf'href="#{name}-\2"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", text)
    # Text as the page has it: its own family, and a size in the drawing's units.
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)
    return text.replace(_INK, "currentColor")
