from __future__ import annotations

import pytest

from jisu.benchmarks.report.column import at, figure_path
from jisu.benchmarks.report.columns import best_rows, headline_columns, headline_workloads, reference_row, unit_words
from tests.benchmarks.made_report import made_report


def test_the_best_of_a_column_is_by_its_own_direction_and_never_a_failed_row():
    report = made_report()
    best = {column.title: best_rows(report["rows"], column) for column in headline_columns(report)}
    assert best["decode"] == {1}
    assert best["mean KL"] == set()  # no interval tells the two apart
    assert best["size"] == {1}  # the failed row's single byte does not count
    assert best["perplexity over the source's"] == set()


def with_intervals(*ends, **rows):
    """A report of two rows with these intervals of the mean KL."""
    report = made_report(**rows)
    for row, (low, high) in zip(report["rows"], ends, strict=False):
        figures = row["quality"]["sets"]["prose"]
        figures |= {"mean_kl": (low + high) / 2, "intervals": {"mean_kl": [low, high]}}
    return report


def best_of(report, title="mean KL"):
    [column] = [column for column in headline_columns(report) if column.title == title]
    return best_rows(report["rows"], column, **reference_row(report))


def test_the_best_is_marked_only_where_its_interval_is_apart():
    assert best_of(with_intervals((0.001, 0.002), (0.003, 0.004))) == {0}
    assert best_of(with_intervals((0.001, 0.0031), (0.003, 0.004))) == set()
    close = made_report(int8={"measured": made_report()["rows"][0]["measured"]})
    assert best_of(close, "decode") == set()


@pytest.mark.parametrize("itself", [{"precision": "source"}, {"engine": "transformers"}])
def test_the_source_is_not_the_best_at_matching_itself(itself):
    apart = ((0.0, 0.0), (0.003, 0.004))
    assert best_of(with_intervals(*apart, fp32=itself)) == {1}
    assert best_of(with_intervals(*apart, fp32=itself), "size") == {1}
    standing_in = with_intervals(*apart)
    standing_in["reference"]["name"] = "fp32"  # its source was gone
    assert best_of(standing_in) == {1}


def test_each_column_says_which_way_is_better_or_that_none_is():
    ways = {column.title: column.direction for column in headline_columns(made_report())}
    assert (ways["decode"], ways["size"]) == ("higher is better", "lower is better")
    assert ways["perplexity over the source's"] == "nearer to 1 is closer"
    assert ways["load"] == "lower is better"


def test_figures_are_medians_or_the_number_itself():
    report = made_report()
    columns = {column.title: column for column in headline_columns(report)}
    row = report["rows"][1]
    assert at(row, figure_path(row, columns["decode"])) == pytest.approx(120.0)
    assert at(row, figure_path(row, columns["size"])) == row["size_bytes"]
    assert figure_path(report["rows"][2], columns["decode"]) is None


def test_the_headline_prefill_is_the_longest_prompts():
    assert headline_workloads(made_report()) == ("short-chat", "long-prompt")


def test_one_of_something_is_in_the_singular():
    assert [unit_words(count, "images") for count in (0, 1, 2)] == ["images", "image", "images"]
    assert unit_words(1, "new") == "new"
