from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.opinions.comparison import judge_continuations, judge_logits, measure_sequence
from jisu.exporter.opinions.limits import EXACT, limits_of_types

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((40, 30)).astype(np.float32)


def figures(ours, limits, name="prose"):
    return measure_sequence(name, ROWS, [ours[:25], ours[25:]], start=100, limits=limits)


def test_equal_logits_agree():
    one = figures(ROWS.copy(), EXACT)
    assert (one.positions, one.max_logit_error, one.top1, one.first) == (40, 0, 1, None)
    assert all(check.passed for check in judge_logits([one], EXACT))


def test_one_wrong_row_is_named_by_its_position():
    ours = ROWS.copy()
    ours[31, 4] += 0.05
    one = figures(ours, EXACT)
    assert one.first == 131
    failed = [check for check in judge_logits([figures(ROWS.copy(), EXACT, "code"), one], EXACT) if not check.passed]
    assert [check.name for check in failed] == ["second-opinion-logits"]
    assert "It diverges first in prose, at position 131." in failed[0].detail


def test_nan_fails_every_figure():
    ours = ROWS.copy()
    ours[3] = np.nan
    for limits in (EXACT, limits_of_types("F32, Q8_0")):
        checks = judge_logits([figures(ours, limits)], limits)
        assert not any(check.passed for check in checks[:2])


def test_a_short_wrong_sequence_is_not_thinned_out_by_long_right_ones():
    limits = limits_of_types("Q4_0, F32")
    wrong = figures(RNG.permutation(ROWS.T).T, limits, "behind the window")
    checks = judge_logits([*[figures(ROWS.copy(), limits)] * 9, wrong], limits)
    kl = next(check for check in checks if check.name == "second-opinion-kl")
    assert not kl.passed
    assert "in behind the window, the worst sequence" in kl.detail


@pytest.mark.parametrize(("types", "strict"), [("F32", 1e-2), ("F16, F32", 2e-2), ("BF16, F32", None), ("Q4_K", None)])
def test_what_rounds_activations_gets_more_room(types, strict):
    assert limits_of_types(types).max_logit_error == strict
    assert EXACT.max_logit_error == 2e-3


def test_a_near_tie_ends_the_comparison_of_a_continuation_and_a_wrong_token_fails():
    scores = np.zeros((3, 5), np.float32)
    scores[0, 1], scores[1, 2], scores[2, 3] = 5, 5, 5
    scores[1, 4] = 5 - 1e-4
    theirs = [([1, 2, 3], scores)]
    assert judge_continuations([[1, 2, 3]], theirs, EXACT).passed
    tie = judge_continuations([[1, 4, 0]], theirs, EXACT)
    assert tie.passed and "1 near tie." in tie.detail
    wrong = judge_continuations([[1, 2, 0]], theirs, EXACT)
    assert not wrong.passed
    assert "Prompt 0, step 2: token 0 where the other implementation chooses 3." in wrong.detail
    assert (
        "step 2: it ends where the other implementation chooses 3"
        in judge_continuations([[1, 2]], theirs, EXACT).detail
    )
