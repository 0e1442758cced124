from __future__ import annotations

from dataclasses import fields

import pytest

from jisu.benchmarks.compare.workloads import WORKLOADS
from jisu.benchmarks.report.columns import closeness_column, headline_columns, headline_words, speed_column
from jisu.benchmarks.report.html import render_html
from jisu.benchmarks.report.kinds import REPORTED, kind_named
from jisu.benchmarks.report.markdown import render_markdown
from jisu.benchmarks.report.plots import draw_pareto
from jisu.benchmarks.report.verdict import Limits
from tests.benchmarks.made_report import made_reading_report, made_report


def test_every_kind_with_workloads_says_what_its_reports_show():
    assert set(WORKLOADS) == set(REPORTED)
    known = {field.name for field in fields(Limits)}
    for name, kind in REPORTED.items():
        assert kind.limits <= known
        assert kind.speed("a", "b") in kind.speeds("a", "b") or kind.speed("a", "b").better == "high", name
        assert {column.title for column in kind.drawn(("quality", "worst"))} <= {
            column.title for column in kind.closeness(("quality", "worst"))
        }


def test_a_report_that_does_not_say_its_kind_is_of_models_that_continue_a_text():
    assert kind_named("None") is REPORTED["text-generation"]
    assert headline_words(made_report()) == "Decode and first token on short-chat, prefill on long-prompt"


def test_vectors_are_drawn_by_what_they_find_or_by_their_cosines():
    report = made_reading_report()
    assert (speed_column(report).unit, closeness_column(report).title) == ("texts/s", "recall@10")
    svg = draw_pareto(report)
    assert svg is not None
    assert ">recall@10 (higher is closer)<" in svg
    for row in report["rows"][:2]:
        del row["quality"]["ranking"]
    assert closeness_column(report).title == "smallest cosine, worst domain"


def test_a_row_that_finds_less_is_drawn_lower():
    svg = draw_pareto(made_reading_report())
    assert svg is not None
    places = [
        float(svg.split(f'id="pareto-pareto-{index}"')[1].split("<use ")[1].split(' y="')[1].split('"')[0])
        for index in (0, 1)
    ]
    assert places[0] < places[1]  # of an SVG: the first row, which finds all, is higher up


def test_no_column_is_empty_and_no_word_is_of_tokens():
    report = made_reading_report()
    table = render_markdown(report)
    head = table.split("\n|---")[0]
    assert "recall@10 % ↑ | rank correlation ↑ | smallest cosine, worst domain ↑" in head
    assert not {"KL", "top-1", "perplexity"} & set(head.replace("|", " ").split())
    page = render_html(report)
    assert "How long a call takes" in page
    for word in ("Greedy answers", "decode", "prefill", "perplexity", "KL"):
        assert word not in page.split("What was verified")[0].split("</style>")[1], word


def test_texts_of_one_length_have_one_column():
    report = made_reading_report()
    assert headline_words(report) == "Short texts and latency on short-text, long ones on long-text"
    del report["workloads"][1]
    assert [column.title for column in headline_columns(report)][:2] == ["short", "latency"]
    assert headline_words(report) == "Short texts and latency on short-text"


def test_speech_of_one_by_one_and_of_all_in_one_have_a_column_each():
    report = made_report()
    report["task"] = "automatic-speech-recognition"
    report["workloads"] = [item.to_dict() for item in WORKLOADS["automatic-speech-recognition"].values()]
    titles = [column.title for column in headline_columns(report)]
    assert titles[:4] == ["real-time factor", "real-time factor, long", "latency", "same words"]
    assert "KL, worst domain" not in titles


@pytest.mark.parametrize("name", ["top-1, worst domain", "perplexity over the source's"])
def test_a_figure_that_no_row_has_is_no_column(name):
    report = made_report()
    for row in report["rows"]:
        row["quality"] = None
    assert name.split(",")[0] in " ".join(column.title for column in headline_columns(report))
    assert name.split(",")[0] not in render_markdown(report)
