from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate import FP32_BUDGET, Budget, quality_budget


def test_a_budget_is_either_strict_or_a_divergence():
    for wrong in ({}, {"max_check_kl": 1.0}, {"max_self_kl": 1.0}, {"max_logit_error": 1.0, "max_check_kl": 1.0}):
        with pytest.raises(InputError, match="unclear"):
            Budget(**wrong)


def test_greedy_tokens_need_to_know_what_a_near_tie_is():
    with pytest.raises(InputError, match="near tie"):
        Budget(max_check_kl=1.0, max_self_kl=1.0, same_greedy_tokens=True)


@pytest.mark.parametrize("wrong", [{"min_top1": 1.5}, {"max_mean_kl": -1.0}, {"max_p99_kl": float("nan")}])
def test_a_limit_out_of_range_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        quality_budget(**{"max_mean_kl": 0.1, **wrong})


def test_fp32_scores_no_text_and_reduced_precision_does():
    assert not FP32_BUDGET.judges_quality
    assert quality_budget(max_mean_kl=0.1).judges_quality
