from __future__ import annotations

import pytest

from jisu.benchmarks.compare.relative_speed import check_reference_row, relative_speeds
from jisu.benchmarks.compare.rounds import Outcome
from jisu.benchmarks.compare.workloads import Workload
from jisu.exporter.contract.errors import InputError
from tests.benchmarks.fake_worker import fake_contestant

SHORT = Workload(name="short", prompt_tokens=4, new_tokens=3)
LABELS = Workload(name="labels", prompt_tokens=4, new_tokens=0, calls=2)


def outcome(name, *seconds, workload=SHORT):
    trials = {workload.name: [{"step_seconds": [second] * 3} for second in seconds]}
    return Outcome(contestant=fake_contestant(name), trials=trials)


def test_each_trial_is_divided_by_the_references_of_the_same_round():
    # The machine was four times slower in the second round: the multiple is the same.
    actual = relative_speeds(outcome("a", 0.5, 2.0, 0.5), outcome("b", 1.0, 4.0, 1.0), [SHORT])
    for figures in actual["short"].values():
        assert (figures["median"], figures["low"], figures["high"]) == (2.0, 2.0, 2.0)
    assert set(actual["short"]) == {"decode_tokens_per_s", "prefill_tokens_per_s"}


def test_texts_of_classifiers_have_multiples_too():
    actual = relative_speeds(outcome("a", 0.5, workload=LABELS), outcome("b", 1.0, workload=LABELS), [LABELS, SHORT])
    assert {key: item["median"] for key, item in actual["labels"].items()} == {"texts_per_s": 2.0}
    assert "short" not in actual


def test_what_failed_or_was_not_measured_has_no_multiple():
    good, bad = outcome("a", 1.0), outcome("b", 1.0)
    bad.failure = "it died"
    assert relative_speeds(good, bad, [SHORT]) == relative_speeds(bad, good, [SHORT]) == {}
    unsupported = outcome("c", 1.0)
    unsupported.unsupported["short"] = "one prompt at a time"
    assert relative_speeds(good, unsupported, [SHORT]) == {}


def test_a_reference_that_is_not_compared_is_refused_with_the_rows_there_are():
    check_reference_row(None, [])
    check_reference_row("a", [fake_contestant("a")])
    with pytest.raises(InputError, match=r"--relative-to.*Received: c. Allowed: a, b"):
        check_reference_row("c", [fake_contestant("a"), fake_contestant("b")])
