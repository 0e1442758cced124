from __future__ import annotations

import math

import pytest

from jisu.benchmarks.report.verdict import Limits, judge, junit_cases
from jisu.exporter.contract.errors import InputError
from tests.benchmarks.made_report import made_figures, made_reading_report, made_report


def slower(factor):
    """A report whose int8 row is as many times as fast as the baseline's."""
    speed = 120.0 * factor
    return made_report(int8={"measured": {"short-chat": made_figures(speed), "long-prompt": made_figures(1.1 * speed)}})


def cases(report, baseline, row="int8", **limits):
    actual = judge(report, baseline, Limits(**limits))
    notes = [*actual["notes"], *actual["not_compared"]]
    return {case["metric"]: case for case in actual["cases"] if case["row"] == row}, notes


def test_a_change_within_the_spread_is_no_change():
    # Both medians have intervals of 4 %: 7 % lower still touches.
    actual, _ = cases(slower(0.93), made_report())
    assert actual["decode on short-chat"]["verdict"] == "no real change"
    assert all(case["passed"] for case in actual.values())


def test_a_spread_wider_than_the_limit_is_said():
    actual, notes = cases(slower(0.93), made_report(), max_slowdown=0.05)
    assert actual["decode on short-chat"]["verdict"] == "varies too much to tell"
    assert "a slowdown of 5 % would not be seen" in notes[-1]
    assert not any("would not be seen" in note for note in cases(slower(0.93), made_report())[1])


def test_a_real_slowdown_regresses_beyond_the_limit_only():
    report = slower(0.8)
    actual, _ = cases(report, made_report(), max_slowdown=0.1)
    assert actual["decode on short-chat"]["verdict"] == "regressed"
    assert not actual["decode on short-chat"]["passed"]
    assert (
        actual["decode on short-chat"]["text"] == "96.00 tok/s after 120.0 (-20.0 %): regressed, and the limit is 10 %"
    )
    actual, _ = cases(report, made_report(), max_slowdown=0.3)
    assert actual["decode on short-chat"]["verdict"] == "slower"
    assert actual["decode on short-chat"]["passed"]
    assert not cases(report, made_report())[0]["decode on short-chat"]["passed"]  # 10 % is the default


def test_a_figure_that_one_side_lacks_is_said_and_not_passed_over():
    before = made_report(int8={"measured": {}, "size_bytes": None})
    actual, notes = cases(made_report(), before, max_size_growth=0.1)
    assert "decode on short-chat" not in actual
    assert "int8 has no decode on short-chat in the baseline, so that was not compared." in notes
    assert "int8 has no size in the baseline, so that was not compared." in notes
    assert "int8 has no prefill on long-prompt now, so that was not compared." in cases(before, made_report())[1]


def test_a_real_gain_is_named():
    assert cases(slower(1.2), made_report())[0]["prefill on long-prompt"]["verdict"] == "faster"


def test_two_trials_tell_nothing():
    report = slower(0.5)
    for figures in report["rows"][1]["measured"].values():
        figures["decode_tokens_per_s"]["confidence"] = 0.5
    actual, _ = cases(report, made_report())
    assert actual["decode on short-chat"]["verdict"] == "too few trials to tell"
    assert actual["decode on short-chat"]["passed"]


def test_quality_is_judged_without_a_baseline():
    actual, _ = cases(made_report(), None, max_kl=0.005, min_top1=0.9, max_perplexity_ratio=1.1)
    assert {metric: case["passed"] for metric, case in actual.items()} == {
        "mean KL": False,
        "top-1": True,
        "perplexity ratio": True,
    }


@pytest.mark.parametrize("quality", [None, {"sets": {}}, {"sets": {"prose": {"mean_kl": math.nan}}}])
def test_a_figure_that_is_missing_is_over_every_limit(quality):
    actual, _ = cases(made_report(int8={"quality": quality}), None, max_kl=0.5)
    assert not actual["mean KL"]["passed"]


def test_a_contestant_that_fails_is_a_regression():
    actual, _ = cases(made_report(), made_report(), row="broken")
    assert not actual["measured"]["passed"]


def test_another_machine_is_said_and_only_quality_and_size_compared():
    baseline = made_report()
    baseline["machine"]["processor"] = "Slow CPU"
    actual, notes = cases(slower(0.5), baseline, max_kl=0.1, max_size_growth=0.1, max_memory_growth=0.1)
    assert set(actual) == {"mean KL", "size"}
    assert "another machine" in notes[-1]
    assert "Slow CPU" in notes[-1]


def with_multiples(factor=1.0, **machine):
    """A report relative to fp32 whose int8 row is ``factor`` times as fast, on a machine that differs."""
    report = slower(factor)
    report["machine"] |= machine
    report["relative_to"] = "fp32"
    for row in report["rows"][:2]:
        multiple = 1.0 if row["name"] == "fp32" else 2.4 * factor
        figures = made_figures(multiple)
        row["relative"] = {"short-chat": {key: figures[key] for key in ("decode_tokens_per_s", "prefill_tokens_per_s")}}
    return report


@pytest.mark.parametrize("has_multiples", [True, False])
def test_multiples_of_a_reference_are_judged_on_another_machine(has_multiples):
    baseline = with_multiples(processor="Slow CPU", cores=64)
    if not has_multiples:  # measured before anybody asked for them: those of the medians stand in
        baseline = {**made_report(), "machine": baseline["machine"]}
    actual, notes = cases(with_multiples(0.75), baseline)
    case = actual["decode on short-chat relative to fp32"]
    assert (case["verdict"], case["passed"]) == ("regressed", False)
    assert "1.800 times its speed after 2.400 (-25.0 %): regressed, and the limit is 10 %" in case["text"]
    assert "Tokens per second and memory were not compared" in notes[-1]
    assert "decode on short-chat" not in actual
    assert all(case["passed"] for case in cases(with_multiples(1.02), baseline)[0].values())


def test_the_reference_itself_is_judged_by_its_seconds_alone():
    actual, _ = cases(with_multiples(), with_multiples(), row="fp32")
    assert "decode on short-chat" in actual
    assert not any("relative" in metric for metric in actual)


@pytest.mark.parametrize(
    ("fp32", "why"),
    [
        ({"size_bytes": 5}, "of another model than in the baseline"),
        ({"failure": "it died"}, "the baseline has not measured that row"),
        ({"name": "another"}, "the baseline has not measured that row"),
    ],
)
def test_a_reference_that_is_no_common_measure_is_said(fp32, why):
    baseline = with_multiples(cores=64)
    baseline["rows"][0] |= fp32
    actual, notes = cases(with_multiples(0.5), baseline)
    assert not any("relative" in metric for metric in actual)
    assert why in notes[-1]


def test_what_may_have_changed_the_multiples_is_said():
    baseline = with_multiples(features=["avx2", "avx512"])
    baseline["rows"][0]["version"] = "jisu 0.0.9"
    _, notes = cases(with_multiples(), baseline)
    assert "The CPU lacks avx512, unlike the baseline's: multiples may differ." in notes
    assert "The reference fp32 is jisu 0.1.0, was jisu 0.0.9: multiples may differ." in notes


def test_another_number_of_threads_is_another_machine():
    baseline = made_report()
    baseline["settings"]["threads"] = 8
    actual, notes = cases(slower(0.5), baseline)
    assert actual == {}
    assert "2 threads, were 8" in notes[-1]


def test_another_schema_is_said_and_limits_still_hold():
    baseline = {"kind": "jisu comparison", "schema_version": 99, "layout": "unknown"}
    actual, notes = cases(made_report(), baseline, max_kl=0.001)
    assert set(actual) == {"mean KL"}
    assert "schema 99" in notes[0]


def test_another_workload_is_said_and_left_out():
    baseline = made_report()
    baseline["workloads"][0]["new_tokens"] = 65
    actual, notes = cases(slower(0.5), baseline)
    assert set(actual) == {"decode on long-prompt", "prefill on long-prompt"}
    assert "The workload short-chat is not the baseline's." in notes


def test_rows_that_only_one_side_has_are_said():
    baseline = made_report(int8={"name": "int4"})
    _, notes = cases(made_report(), baseline)
    assert "int8 is not in the baseline." in notes
    assert "int4 of the baseline was not measured now." in notes


def test_growth_of_memory_and_size_has_limits_of_its_own():
    baseline = made_report(int8={"peak_bytes": 1_000_000})
    actual, _ = cases(made_report(), baseline, max_memory_growth=0.5, max_size_growth=0.0)
    assert (actual["peak memory"]["passed"], actual["size"]["passed"]) == (False, True)


def test_junit_has_a_case_for_each_metric():
    report = made_report()
    plain = junit_cases(report)
    assert [case.name for case in plain if case.group == "int8"][:2] == ["decode", "prefill"]
    assert [case.passed for case in plain if case.group == "broken"] == [False]
    report["verdict"] = judge(slower(0.5), made_report(), Limits())
    judged = junit_cases(report)
    assert {case.name for case in judged if not case.passed and case.group == "int8"} >= {"decode on short-chat"}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_limit_below_zero_is_none(value):
    with pytest.raises(InputError, match="--max-slowdown is not a limit"):
        Limits(max_slowdown=value)


def test_limits_of_what_nobody_measures_are_refused():
    with pytest.raises(InputError, match="--no-quality with --max-kl, --min-top1"):
        Limits(max_kl=0.1, min_top1=0.9).check(model_kind="text-generation", quality=False)
    with pytest.raises(
        InputError, match="give labels, of which this is not measured.*--max-kl, --max-kl-mean, --min-top1"
    ):
        Limits(max_perplexity_ratio=1.1).check(model_kind="text-classification", quality=True)
    Limits(max_perplexity_ratio=1.1).check(model_kind="text-generation", quality=True)
    Limits(max_kl=0.1, max_slowdown=0.1).check(model_kind="text-classification", quality=True)


def test_vectors_have_limits_of_their_own():
    with pytest.raises(InputError, match="give vectors.*--max-kl.*--min-cosine, --min-recall"):
        Limits(max_kl=0.1).check(model_kind="feature-extraction", quality=True)
    with pytest.raises(InputError, match="--min-recall is not a share"):
        Limits(min_recall=95)
    report = made_reading_report()
    for limits, passed in (
        ({"min_cosine": 0.998, "min_recall": 0.98}, (True, True)),
        ({"min_cosine": 0.9999, "min_recall": 0.99}, (False, False)),
    ):
        actual, _ = cases(report, None, **limits)
        assert (actual["smallest cosine"]["passed"], actual["recall@10"]["passed"]) == passed
    del report["rows"][1]["quality"]["ranking"]
    actual, _ = cases(report, None, min_recall=0.5)
    assert (actual["recall@10"]["passed"], "not measured" in actual["recall@10"]["text"]) == (False, True)


def test_the_share_of_the_same_words_has_a_limit():
    report = made_report(int8={"quality": {"sets": {}, "transcripts": {"same_words": 35 / 36, "words": 36}}})
    for limit, passed in ((0.97, True), (0.98, False)):
        actual, _ = cases(report, None, min_same_words=limit)
        assert actual["same words"]["passed"] is passed
        assert actual["same words"]["text"] == f"97.22 % of 36 words, limit at least {100 * limit:g} %"
    report["rows"][1]["quality"] = None
    actual, _ = cases(report, None, min_same_words=0.5)
    assert (actual["same words"]["passed"], "not measured" in actual["same words"]["text"]) == (False, True)


def test_limits_of_change_without_a_baseline_are_said():
    actual, notes = cases(made_report(), None, max_slowdown=0.1, max_size_growth=0.1)
    assert actual == {}
    assert notes == ["--max-slowdown, --max-size-growth had nothing to compare with: no --baseline was given."]


def test_the_worst_domain_is_judged_and_a_limit_is_exceeded_when_its_interval_is():
    sets = {
        "prose": {"mean_kl": 0.01, "intervals": {"mean_kl": [0.008, 0.012]}},
        "code": {"mean_kl": 0.05, "intervals": {"mean_kl": [0.03, 0.07]}},
        "noise": {"mean_kl": 9.0, "judges": False},
    }
    report = made_report(int8={"quality": {"sets": sets, "average": {"mean_kl": 0.03}}})
    for limit, passed in ((0.06, True), (0.04, True), (0.02, False)):
        actual, _ = cases(report, None, max_kl=limit)
        assert actual["mean KL"]["passed"] is passed
        assert "code, the worst of 2 domains" in actual["mean KL"]["text"]
    for limit, passed in ((0.03, True), (0.029, False)):
        actual, _ = cases(report, None, max_average_kl=limit)
        assert actual["mean KL of all domains"]["passed"] is passed
