from __future__ import annotations

import math

import numpy as np
import pytest

from jisu.exporter.gate.quality import QualityMeter, kl_divergence, log_softmax, measure_quality

LN2 = math.log(2)


def logits_of(*rows):
    """Logits whose softmax is the given probabilities."""
    return np.log(np.array(rows, dtype=np.float64)).astype(np.float32)


def flat(meter):
    figures = meter.result().to_dict()
    return figures | {
        f"{name} {end}": one for name, ends in figures.pop("intervals").items() for end, one in enumerate(ends)
    }


def test_kl_of_two_known_distributions():
    # 1/2 ln(1/2 / 1/4) + 1/2 ln(1/2 / 3/4) = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3
    value = kl_divergence(logits_of([0.5, 0.5]), logits_of([0.25, 0.75]))
    assert value == pytest.approx([0.5 * math.log(4 / 3)], abs=1e-7)


def test_kl_is_from_the_reference_to_the_candidate():
    # The other direction: 1/4 ln(1/4 / 1/2) + 3/4 ln(3/4 / 1/2)
    value = kl_divergence(logits_of([0.25, 0.75]), logits_of([0.5, 0.5]))
    assert value == pytest.approx([0.25 * math.log(0.5) + 0.75 * math.log(1.5)], abs=1e-7)


def test_kl_ignores_a_constant_added_to_all_logits():
    reference = logits_of([0.1, 0.2, 0.7])
    assert kl_divergence(reference, reference + 5) == pytest.approx([0.0], abs=1e-6)


def test_log_softmax_of_huge_logits_is_finite():
    value = log_softmax(np.array([[1e4, 1e4, -1e4]], dtype=np.float32))
    assert value[0] == pytest.approx([-LN2, -LN2, -2e4 - LN2])


def test_figures_of_three_tokens_by_hand():
    reference = logits_of([0.5, 0.5], [0.75, 0.25], [0.25, 0.75])
    candidate = logits_of([0.25, 0.75], [0.75, 0.25], [0.75, 0.25])
    meter = QualityMeter()
    meter.add(reference[:2], candidate[:2], np.array([0, 0]))
    meter.add(reference[2:], candidate[2:], np.array([1]))
    quality = meter.result()
    kl = [0.5 * math.log(4 / 3), 0.0, 0.25 * math.log(1 / 3) + 0.75 * math.log(3)]
    assert quality.tokens == 3
    assert quality.mean_kl == pytest.approx(sum(kl) / 3, abs=1e-7)
    assert quality.p99_kl == pytest.approx(kl[2], abs=1e-7)
    # Row 0: a tie of the reference (argmax 0) against 1; row 1 agrees; row 2 does not.
    assert quality.top1 == pytest.approx(1 / 3)
    # Probabilities of the targets: 1/2, 3/4, 3/4 and 1/4, 3/4, 1/4.
    assert quality.reference_perplexity == pytest.approx((0.5 * 0.75 * 0.75) ** (-1 / 3), rel=1e-6)
    assert quality.perplexity == pytest.approx((0.25 * 0.75 * 0.25) ** (-1 / 3), rel=1e-6)
    assert quality.perplexity_ratio == pytest.approx(quality.perplexity / quality.reference_perplexity)


def test_p99_is_the_smallest_value_that_99_of_100_do_not_exceed():
    # Row i diverges by a known amount; 99 rows by 1/2 ln 4/3 and one by far more.
    reference = logits_of(*[[0.5, 0.5]] * 100)
    candidate = logits_of(*[[0.25, 0.75]] * 99, [1e-6, 1 - 1e-6])
    meter = QualityMeter()
    meter.add(reference, candidate, np.zeros(100, dtype=np.int64))
    assert meter.result().p99_kl == pytest.approx(0.5 * math.log(4 / 3), abs=1e-7)
    meter.add(reference[:2], candidate[-2:], np.zeros(2, dtype=np.int64))  # now 2 of 102 are far: more than 1 %
    assert meter.result().p99_kl > 6


def test_blocks_do_not_change_the_figures(monkeypatch):
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(37, 11)).astype(np.float32)
    candidate = reference + generator.normal(size=(37, 11)).astype(np.float32)
    targets = generator.integers(0, 11, 37)
    whole = QualityMeter()
    whole.add(reference, candidate, targets)
    monkeypatch.setattr("jisu.exporter.gate.quality.BLOCK_BYTES", 4 * 11 * 3)
    pieces = QualityMeter()
    pieces.add(reference, candidate, targets)
    assert flat(pieces) == pytest.approx(flat(whole))


def test_confident_choices_that_change_are_counted():
    # Margins of 0.8, 0.8, 0.4 and 0.6: the third is no confident choice, the last one changes.
    reference = logits_of([0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8])
    candidate = logits_of([0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3])
    meter = QualityMeter()
    meter.add(reference, candidate, np.array([0, 0, 0, 0]))
    quality = meter.result()
    assert (quality.confident, quality.changed) == (3, 1)
    assert quality.confident_changes == pytest.approx(1 / 3)
    assert quality.interval("confident_changes").low < 1 / 3 < quality.interval("confident_changes").high


def test_a_few_tokens_have_no_interval_and_many_have_one():
    meter = QualityMeter()
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(128, 11)).astype(np.float32)
    candidate = reference + generator.normal(size=(128, 11)).astype(np.float32)
    meter.add(reference[:40], candidate[:40], np.zeros(40, np.int64))
    few = meter.result()
    assert few.interval("mean_kl") == (few.mean_kl, few.mean_kl)
    meter.add(reference[40:], candidate[40:], np.zeros(88, np.int64))
    many = meter.result()
    for figure in ("mean_kl", "top1", "perplexity_ratio"):
        low, high = many.interval(figure)
        assert low < getattr(many, figure) < high


def test_shapes_that_do_not_belong_together_are_refused():
    meter = QualityMeter()
    with pytest.raises(ValueError, match="targets"):
        meter.add(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="nothing was scored"):
        meter.result()


class Counting:
    """Backend and reference in one: after token t, token t + 1 is the most likely, with logit 3."""

    vocab_size = 8
    description = "counting"

    def __init__(self, shift=1):
        self.shift = shift

    def new_state(self, batch, capacity):
        return None

    def logits(self, token_ids, positions=None):
        return 3 * np.eye(8, dtype=np.float32)[(token_ids + self.shift) % 8]

    def forward(self, token_ids, state, *, new_lengths=None, logits="last"):
        return self.logits(token_ids[0])[None]


def test_every_token_but_the_first_of_each_window_is_scored():
    windows = [np.arange(5) % 8, np.arange(3) % 8]
    seen = []
    quality = measure_quality(Counting(), Counting(), windows, progress=lambda done, total: seen.append((done, total)))
    assert quality.tokens == 4 + 2
    assert seen == [(1, 2), (2, 2)]
    assert quality.top1 == 1
    # The next token has logit 3 among seven zeros.
    assert quality.perplexity == pytest.approx((math.exp(3) + 7) / math.exp(3))
    assert quality.mean_kl == pytest.approx(0, abs=1e-9)


def test_predictions_off_by_one_are_measured_against_the_right_target():
    quality = measure_quality(Counting(shift=2), Counting(), [np.arange(5) % 8])
    assert quality.top1 == 0
    # Its logit 3 is on another token than the one that comes.
    assert quality.perplexity == pytest.approx(math.exp(3) + 7)
