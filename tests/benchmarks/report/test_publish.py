from __future__ import annotations

import json
import random
from xml.etree import ElementTree

import pytest

from jisu.benchmarks.report.html import render_html
from jisu.benchmarks.report.markdown import render_markdown
from jisu.benchmarks.report.publish import BEGIN, END, publish, readme_columns, render_whole, standalone_plot
from jisu.benchmarks.report.report import write_report
from jisu.benchmarks.robustness.mutants import change_value
from jisu.exporter.contract.errors import InputError
from tests.benchmarks.made_report import made_report


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "report").mkdir()
    write_report(made_report(), tmp_path / "report")
    for name in ("README.md", "page.md"):
        (tmp_path / name).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return tmp_path


def run(folder, rows=("int8",)):
    readme, page = folder / "README.md", folder / "page.md"
    plot = folder / "docs" / "plot.svg"
    publish(folder / "report", results=folder / "results", plot=plot, page=page, readme=readme, rows=rows)
    return readme.read_text(), page.read_text()


def test_the_page_gets_the_table_the_readme_some_rows_and_the_plot_and_again_the_same(folder):
    readme, page = run(folder)
    for text in (readme, page):
        assert text.startswith(f"before\n{BEGIN}\n|  | decode")
        assert "| int8 | **120.0** (115.2–124.8) |" in text
        assert "\nold\n" not in text
        assert text.endswith(f"{END}\nafter\n")
    assert "docs/plot.svg)" in readme
    assert "fp32" in page.split("Decode and")[0]
    assert "fp32" not in readme
    assert run(folder) == (readme, page)
    assert json.loads((folder / "results" / "report.json").read_text()) == made_report()
    assert ElementTree.parse(folder / "docs" / "plot.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_paths_of_a_machine_and_a_readme_without_a_place_are_refused(folder):
    (folder / "README.md").write_text("nothing")
    with pytest.raises(InputError, match="has no place for the table"):
        run(folder)
    (folder / "README.md").write_text(f"{BEGIN}{END}")
    with pytest.raises(InputError, match="no such row.*fp64.*int8"):
        run(folder, rows=("fp64",))
    # As versions before 0.2 wrote it.
    (folder / "report" / "report.json").write_text(json.dumps(made_report(int8={"path": "/home/me/build/int8"})))
    with pytest.raises(InputError, match="/home/me/build/int8"):
        run(folder)


def test_a_damaged_report_is_refused_before_anything_is_written(folder):
    for damage in ({"size_bytes": "much"}, {"measured": {"short-chat": 3}}, {"name": None}, {"operators": [7]}):
        report = made_report(int8=damage)
        (folder / "report" / "report.json").write_text(json.dumps(report))
        with pytest.raises(InputError):
            run(folder)
    assert not (folder / "results").exists()
    assert "old" in (folder / "README.md").read_text()


@pytest.mark.parametrize(("render", "count"), [(render_markdown, 130), (render_html, 3), (standalone_plot, 5)])
def test_reports_with_any_value_damaged_are_rendered_or_refused(render, count):
    whole = json.dumps(made_report()).encode()
    refused = 0
    for seed in range(count):
        try:
            render_whole(json.loads(change_value(whole, random.Random(seed))), render)
        except InputError:
            refused += 1
    assert refused or count < 130


def test_the_readme_shows_the_worst_domain_where_there_are_domains():
    report = made_report()
    assert readme_columns(report) == ("decode", "prefill", "mean KL", "top-1", "size")
    report["rows"][0]["quality"] = {"worst": {"mean_kl": 0.1}, "average": {"mean_kl": 0.01}}
    assert readme_columns(report)[2:4] == ("KL, worst domain", "mean KL, all domains")
