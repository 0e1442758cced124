from __future__ import annotations

from jisu.benchmarks.report.html import render_html
from jisu.benchmarks.report.markdown import render_markdown
from jisu.benchmarks.report.verdict import Limits, judge
from tests.benchmarks.made_report import made_report


def test_table_has_a_line_for_each_row_with_the_best_in_bold():
    text = render_markdown(made_report())
    assert "| int8 | **120.0** (115.2–124.8) |" in text
    assert "decode tok/s ↑ |" in text
    assert "size MB ↓ |" in text
    assert "↑ higher is better" in text
    assert "| broken | failed |" in text
    assert "- **broken failed**: short-chat: the process was ended by signal 9" in text
    assert "- llama.cpp F16 was not compared: llama_cpp is not installed; install it with: pip install it" in text
    assert "`jisu compare build/fp32 build/int8`" in text


def test_the_title_names_the_model():
    report = made_report()
    report["model"] = {"name": "My Model", "architecture": "Llama", "parameters": 135_000_000}
    assert render_markdown(report).startswith("### My Model\n")
    page = render_html(report)
    assert "<title>My Model: speed and quality</title>" in page
    assert "<h1>My Model: speed and quality</h1>" in page


def test_why_there_is_no_quality_is_said():
    report = made_report()
    report["reference"] = {"name": None, "description": None, "problems": ["source: it does not exist"]}
    assert "- No quality against source: it does not exist" in render_markdown(report)


def test_trials_on_a_cluster_are_not_called_interleaved():
    assert "medians of 5 interleaved trials" in render_markdown(made_report())
    report = made_report(int8={"machine": {"processor": "another"}})
    assert "medians of 5 trials of each alone" in render_markdown(report)
    assert "interleaved" not in render_html(report)


def test_a_verdict_names_what_regressed():
    report = made_report(int8={"failure": None})
    report["verdict"] = judge(report, None, Limits(max_kl=0.001))
    assert "**regressed**: int8, mean KL: 0.0054 on prose, limit at most 0.001" in render_markdown(report)


def test_a_bar_in_a_name_stays_in_its_cell():
    report = made_report(fp32={"name": "a|b"})
    assert "| a\\|b |" in render_markdown(report)
