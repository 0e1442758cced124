from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.gate import Budget, quality_budget
from jisu.exporter.gate.domain_quality import (
    DomainFigures,
    DomainQuality,
    domain_checks,
    domain_figures,
    measure_domains,
)
from jisu.exporter.gate.domain_tokens import DomainTokens, Judged
from jisu.exporter.gate.intervals import Interval
from jisu.exporter.gate.quality import Quality

FINE = Quality(mean_kl=0.1, p99_kl=1.0, top1=0.9, perplexity=11.0, reference_perplexity=10.0, tokens=500)
POOR = replace(FINE, mean_kl=0.2, top1=0.8)


class Counting:
    """Backend and reference in one: after token t, token t + 1 is the most likely; ids from 4 on are another domain."""

    vocab_size = 8
    description = "counting"

    def __init__(self, *, wrong=0.0, size=3.0):
        self.wrong = wrong
        self.size = size
        self.calls = 0

    def new_state(self, batch, capacity):
        return None

    def logits(self, token_ids, positions=None):
        logits = self.size * np.eye(8, dtype=np.float32)[(token_ids + 1) % 8]
        noise = np.random.default_rng(int(token_ids.sum())).uniform(0.9, 1.1, (len(token_ids), 1))
        logits[token_ids >= 4] *= 1 - self.wrong * noise.astype(np.float32)[token_ids >= 4]
        return logits

    def forward(self, token_ids, state, *, new_lengths=None, logits="last"):
        self.calls += 1
        return self.logits(token_ids[0])[None]


def windows(low, high, count=8, length=65):
    generator = np.random.default_rng(low)
    return tuple(generator.integers(low, high, length, dtype=np.int64) for _ in range(count))


JUDGED = Judged(
    domains=(DomainTokens(name="small", windows=windows(0, 4)), DomainTokens(name="large", windows=windows(4, 8)))
)


def check_named(checks, name):
    return next(check for check in checks if check.name == name)


def test_the_worst_domain_decides():
    budget = quality_budget(max_mean_kl=0.05)
    actual = measure_domains(Counting(wrong=0.5), Counting(), JUDGED, budget, first=64)
    assert actual.worst.name == "large"
    check = check_named(domain_checks(actual, budget), "mean-kl")
    assert not check.passed
    assert check.value == actual.worst.quality.mean_kl
    assert "large, the worst of 2 domains" in check.detail
    # The mean over the domains alone would not tell.
    assert actual.average_kl == pytest.approx(actual.worst.quality.mean_kl / 2)


def test_a_clear_verdict_takes_no_more_text_than_the_first():
    candidate = Counting()
    actual = measure_domains(candidate, Counting(), JUDGED, quality_budget(max_mean_kl=0.05), first=64)
    assert candidate.calls == 2
    assert [domain.quality.tokens for domain in actual.domains] == [64, 64]


def test_where_the_verdict_is_not_clear_more_is_read_of_that_domain_only():
    sample = measure_domains(Counting(wrong=0.5), Counting(), JUDGED, Budget(max_logit_error=1.0), first=10**6)
    limit = sample.worst.quality.mean_kl  # in the middle of every interval
    budget = quality_budget(max_mean_kl=limit)
    actual = measure_domains(Counting(wrong=0.5), Counting(), JUDGED, budget, first=64)
    assert [domain.quality.tokens for domain in actual.domains] == [64, 8 * 64]
    assert check_named(domain_checks(actual, budget), "mean-kl").passed


def test_other_figures_are_clear_within_their_limits_and_looked_into_beyond_them():
    generous = measure_domains(Counting(wrong=1.0), Counting(), JUDGED, Budget(max_logit_error=1.0), first=64)
    share = generous.worst.quality.top1
    assert 0 < share < 1
    for least, enough in ((share - 0.01, True), (share + 0.01, False)):
        budget = quality_budget(max_mean_kl=100, min_top1=least)
        actual = measure_domains(Counting(wrong=1.0), Counting(), JUDGED, budget, first=64)
        assert (actual.worst.quality.tokens == 64) is enough


def test_a_limit_is_exceeded_when_the_interval_lies_beyond_it():
    quality = replace(FINE, intervals={"mean_kl": Interval(0.08, 0.12), "top1": Interval(0.88, 0.92)})
    actual = domain_figures([("prose", quality)])
    for limit, passed in ((0.13, True), (0.09, True), (0.079, False)):
        assert check_named(domain_checks(actual, quality_budget(max_mean_kl=limit)), "mean-kl").passed is passed
    for least, passed in ((0.87, True), (0.91, True), (0.93, False)):
        budget = quality_budget(max_mean_kl=1, min_top1=least)
        assert check_named(domain_checks(actual, budget), "top-1").passed is passed


def test_a_domain_that_the_source_knows_nothing_of_does_not_judge():
    unknown = replace(POOR, mean_kl=9.0, reference_perplexity=5000.0)
    actual = domain_figures([("prose", FINE), ("hindi", unknown)])
    assert actual.worst.name == "prose"
    assert actual.average_kl == 0.1
    assert [domain.judges for domain in actual.domains] == [True, False]
    assert actual.notes == (
        "Not judged on hindi: the source itself knows nothing of it (perplexity 5,000, the limit is 2,000).",
    )
    assert check_named(domain_checks(actual, quality_budget(max_mean_kl=0.15)), "mean-kl").passed


def test_a_source_that_knows_no_text_is_judged_on_all_of_it():
    unknown = replace(FINE, reference_perplexity=5000.0)
    actual = domain_figures([("prose", unknown), ("code", replace(unknown, mean_kl=0.3))])
    assert actual.worst.name == "code"
    assert "noise" in actual.notes[0]


def test_figures_without_a_limit_are_stated_and_fail_only_when_they_are_no_numbers():
    budget = quality_budget(max_mean_kl=0.2)
    stated = {check.name: check for check in domain_checks(domain_figures([("prose", FINE)]), budget)}
    assert [check.limit for check in stated.values()] == [0.2, None, None, None, None]
    assert list(stated) == ["mean-kl", "p99-kl", "top-1", "perplexity-ratio", "confident-changes"]
    assert stated["top-1"].value == 0.9
    assert all(check.passed for check in stated.values())
    broken = domain_checks(domain_figures([("prose", replace(FINE, p99_kl=math.nan))]), budget)
    assert [check.name for check in broken if not check.passed] == ["p99-kl"]


def test_each_limit_judges_its_own_figure():
    quality = replace(FINE, confident=100, changed=2)
    actual = domain_figures([("prose", quality)])
    fits = {
        "max_mean_kl": 0.1,
        "max_p99_kl": 1.0,
        "min_top1": 0.9,
        "max_perplexity_ratio": 1.1,
        "max_confident_changes": 0.02,
        "max_average_kl": 0.1,
    }
    too_tight = {
        "max_mean_kl": 0.099,
        "max_p99_kl": 0.99,
        "min_top1": 0.91,
        "max_perplexity_ratio": 1.09,
        "max_confident_changes": 0.019,
        "max_average_kl": 0.099,
    }
    assert all(check.passed for check in domain_checks(actual, quality_budget(**fits)))
    for name, limit in too_tight.items():
        checks = domain_checks(actual, quality_budget(**{**fits, name: limit}))
        assert sum(not check.passed for check in checks) == 1, name
    assert domain_checks(actual, Budget(max_logit_error=1e-3)) == []


def test_each_figure_is_that_of_its_own_worst_domain():
    actual = domain_figures([("prose", replace(FINE, mean_kl=0.3)), ("code", replace(FINE, top1=0.5))])
    checks = domain_checks(actual, quality_budget(max_mean_kl=1, min_top1=0.1))
    assert "prose" in check_named(checks, "mean-kl").detail
    assert "code" in check_named(checks, "top-1").detail


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_in_any_domain_fails_every_figure(value):
    class Broken(Counting):
        def logits(self, token_ids, positions=None):
            logits = super().logits(token_ids)
            if token_ids[0] >= 4:
                logits[3, token_ids[4]] = value  # of the token that comes
            return logits

    budget = quality_budget(
        max_mean_kl=1e9, max_p99_kl=1e9, min_top1=0.999, max_perplexity_ratio=1e9, max_average_kl=1e9
    )
    with np.errstate(invalid="ignore", over="ignore"):
        actual = measure_domains(Broken(), Counting(), JUDGED, budget, first=64)
        checks = domain_checks(actual, budget)
    # The choice at that position is the one that changes, too; an interval of one in 64 allows for it.
    judged = [check.passed for check in checks if check.name not in ("confident-changes", "top-1")]
    assert judged == [False] * 4


def test_the_record_has_every_domain():
    actual = DomainQuality(
        domains=(DomainFigures(name="prose", quality=FINE), DomainFigures(name="code", quality=POOR))
    )
    record = actual.to_dict()
    assert record["worst"] == "code"
    assert record["average_kl"] == pytest.approx(0.15)
    assert [domain["name"] for domain in record["domains"]] == ["prose", "code"]
