from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from jisu.benchmarks.report.column import UNITS, at
from jisu.benchmarks.report.html import render_html
from jisu.benchmarks.report.verdict import Limits, judge
from tests.benchmarks.made_report import made_report


class _Page(HTMLParser):
    """Collects every <data> element, and the text that is in none of them."""

    def __init__(self):
        super().__init__()
        self.figures: list[tuple[dict[str, str], str]] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self._data: dict[str, str] | None = None

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self._open.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]
        if tag == "data":
            self._data = dict(attrs)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass
        if tag == "data":
            self._data = None

    def handle_data(self, data):
        if self._data is not None:
            self.figures.append((self._data, data))
        elif not {"style", "svg"} & set(self._open):
            self.text.append(data)


def parsed(page):
    parser = _Page()
    parser.feed(page)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def report():
    made = made_report()
    made["verdict"] = judge(made, made_report(), Limits(max_kl=0.01, max_size_growth=0.5))
    return made


@pytest.fixture(scope="module")
def page(report):
    return render_html(report)


def test_every_figure_is_the_reports_own(report, page):
    """Each number names its place in the report, has its value, and is rounded in its own unit only."""
    figures = parsed(page).figures
    assert len(figures) > 150
    for attributes, text in figures:
        value = at(report, attributes["data-path"].split("/"))
        assert repr(value) == attributes["value"], attributes["data-path"]
        factor, _ = UNITS[attributes["data-unit"]]
        assert float(text) == pytest.approx(value / factor, rel=6e-3), attributes["data-path"]


def test_no_number_of_the_text_comes_from_elsewhere(report, page):
    """What has digits outside of the figures is a word of the report, or of the page itself, which knows no figures."""
    words = set(strings(report)) | {"top-1", "5 to 95 %", "→ 1", "nearer to 1 is closer"}
    words |= {f"{text} {number}" for text in ("token", "tokens") for number in ("p50", "p90", "p99")} | {"p99 KL"}
    rest = " ".join(" ".join(parsed(page).text).split())
    for word in sorted(words, key=len, reverse=True):
        rest = rest.replace(" ".join(word.split()), " ")
    assert re.findall(r"\S*\d\S*", rest) == []


def strings(data):
    if isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)
    elif isinstance(data, str):
        yield data


def test_another_figure_in_the_report_is_another_one_on_the_page(page):
    changed = made_report(int8={"peak_bytes": 777_700_000})
    assert "777.7" not in page
    assert "777.7" in render_html(changed)


def test_the_page_opens_without_a_network_and_is_small(page):
    addresses = parsed(page).addresses
    assert [address for address in addresses if not address.startswith("#")] == []
    assert "url(http" not in page
    assert "<script" not in page
    assert len(page.encode()) < 2_000_000


def test_references_within_the_drawings_lead_to_one_place_each(page):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    expected = set(re.findall(r'href="#([^"]*)"', page)) | set(re.findall(r"url\(#([^)]*)\)", page))
    assert expected <= set(ids)


def test_what_a_report_says_is_text_and_no_markup(page):
    assert "Quick &lt;b&gt;CPU&lt;/b&gt; 9000" in page


def test_a_failed_row_is_never_the_best_and_what_happened_is_said_once_below_the_first_table(page):
    lines = [line.split("</tr>")[0] for line in page.split("<tr>") if "<td>broken</td>" in line]
    tables = [line for line in lines if "colspan" in line]
    assert len(tables) == page.count("<th>contestant</th>") - 2  # of those with cases
    assert all(">failed</td>" in line and "best" not in line and "signal" not in line for line in tables)
    assert page.count("broken failed:</span> short-chat: the process was ended by signal 9") == 1


def test_a_figure_has_its_title_where_the_head_of_the_table_is_not_shown(page):
    assert 'data-title="decode tok/s ↑"' in page
    assert 'data-title="size MB ↓"' in page
    assert "@media screen and (max-width: 60rem)" in page  # paper has room for tables


def test_a_report_without_quality_and_with_one_row_renders():
    report = made_report()
    report["rows"] = report["rows"][:1]
    report["rows"][0]["quality"] = None
    report["reference"] = None
    report["pareto"] = []
    assert "fp32" in render_html(report)


def test_a_report_of_failures_alone_renders():
    report = made_report()
    report["rows"] = report["rows"][2:]
    report["pareto"] = []
    assert "ended by signal 9" in render_html(report)
