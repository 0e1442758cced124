from __future__ import annotations

import re

import pytest

from jisu.benchmarks.report.plots import draw_memory, draw_operators, draw_pareto, draw_token_times, row_colour
from tests.benchmarks.made_report import made_report, made_row


def outline(svg, name):
    """The x coordinates of the path of the element with this id."""
    part = svg[svg.index(f'id="{name}"') :]
    path = re.search(r' d="([^"]*)"', part)
    assert path is not None
    return [float(x) for x in re.findall(r"[ML] ([-\d.]+) [-\d.]+", path[1])]


def test_bars_are_as_long_as_the_report_says():
    report = made_report()
    svg = draw_memory(report)
    widths = {}
    for index in (0, 1):
        for key in ("peak_bytes", "size_bytes"):
            xs = outline(svg, f"memory-memory-{index}-{key}")
            widths[index, key] = max(xs) - min(xs)
    scale = widths[0, "size_bytes"] / report["rows"][0]["size_bytes"]
    for (index, key), width in widths.items():
        assert width == pytest.approx(scale * report["rows"][index][key], rel=1e-3)


def test_operators_take_their_shares_of_the_width():
    svg = draw_operators(made_report())
    widths = [max(xs) - min(xs) for number in range(3) for xs in [outline(svg, f"operators-operators-1-{number}")]]
    assert [width / sum(widths) for width in widths] == pytest.approx([0.61, 0.27, 0.12], rel=1e-3)


def test_boxes_of_faster_rows_lie_further_left():
    svg = draw_token_times(made_report())
    assert max(outline(svg, "times-times-1")) < min(outline(svg, "times-times-0"))


def test_a_failed_row_is_in_no_drawing():
    report = made_report()
    for draw in (draw_pareto, draw_token_times, draw_memory, draw_operators):
        svg = draw(report)
        assert "int8" in svg
        assert "broken" not in svg


def test_text_takes_the_pages_colour_and_stays_text():
    svg = draw_pareto(made_report())
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert ">int8<" in svg
    assert draw_pareto(made_report()) == svg


@pytest.mark.parametrize("rows", [2, 8, 9, 13, 24])
def test_no_two_rows_have_one_colour(rows):
    assert len({row_colour(index, rows) for index in range(rows)}) == rows


def test_names_of_many_rows_near_zero_do_not_cover_each_other():
    report = made_report()
    report["rows"] = [
        made_row(f"contestant number {index}", speed=40.0 + index / 10, kl=index * 1e-12) for index in range(13)
    ]
    report["pareto"] = [12]
    svg = draw_pareto(report)
    places = [
        (float(x), float(y))
        for x, y in re.findall(r"<text [^>]*translate\(([-\d.]+) ([-\d.]+)\)[^>]*>contestant", svg)
        or re.findall(r'<text [^>]*x="([-\d.]+)" y="([-\d.]+)"[^>]*>contestant', svg)
    ]
    assert len(places) == 13
    width, line = 90.0, 9.0
    for number, (x, y) in enumerate(places):
        assert all(abs(x - other) >= width or abs(y - below) >= line for other, below in places[:number])


def test_one_row_alone_is_no_comparison():
    report = made_report()
    report["rows"] = report["rows"][:1]
    assert draw_pareto(report) is None


def test_a_name_does_not_cover_the_interval_of_another_point():
    """One point's interval runs right above another point, where that one's name would stand."""
    wide = made_row("wide", speed=30.0, kl=0.0072)
    wide["measured"]["short-chat"]["decode_tokens_per_s"]["high"] = 200.0
    svg = draw_pareto(made_report(broken=wide))
    text = re.search(r"<text [^>]*translate\(([-\d.]+) ([-\d.]+)\)[^>]*>int8</text>", svg) or re.search(
        r'<text [^>]*x="([-\d.]+)" y="([-\d.]+)"[^>]*>int8</text>', svg
    )
    marker = re.search(r'id="pareto-pareto-2".*?<use [^>]*y="([-\d.]+)"', svg, re.DOTALL)
    assert text is not None and marker is not None
    baseline, interval = float(text[2]), float(marker[1])
    assert not baseline - 8 < interval < baseline + 1
