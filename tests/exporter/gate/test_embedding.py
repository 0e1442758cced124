"""The gate of an embedding model on vectors that are wrong in one way each."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.gate.embedding import compare_rankings
from jisu.exporter.gate.one_pass import run_one_pass_gate
from jisu.exporter.gate.texts import gate_texts
from jisu.exporter.precision.budget import FP32_BUDGET, quality_budget
from tests.support.models import TINY_VOCAB, tiny_tokenizer

DIMENSIONS = 16
RELAXED = quality_budget(max_mean_kl=0.02, min_cosine=0.995, min_recall=0.95)


class Source:
    columns, kind, description = DIMENSIONS, "feature-extraction", "a table"

    def __init__(self):
        self.table = np.random.default_rng(0).standard_normal((TINY_VOCAB, DIMENSIONS)).astype(np.float32)

    def logits(self, token_ids, positions=None):
        vector = self.table[np.asarray(token_ids)].mean(axis=0, keepdims=True)
        return vector / np.linalg.norm(vector)


class Candidate:
    name, vocab_size, max_positions, columns, per_token = "candidate", TINY_VOCAB, None, DIMENSIONS, False
    takes_unequal = True

    def __init__(self, fault):
        self.fault, self.source = fault, Source()
        self.noise = np.random.default_rng(1)

    def outputs(self, rows, types=None):
        vectors = np.concatenate([self.source.logits(row) for row in rows])
        if self.fault == "longer":
            return 2 * vectors
        if self.fault == "turned":
            return vectors[:, ::-1]
        if self.fault == "nan" and len(rows) > 1:
            return np.full_like(vectors, np.nan)
        if self.fault == "rounded":
            return np.round(vectors, 2)
        if self.fault == "blurred":
            return vectors + 0.04 * self.noise.standard_normal(vectors.shape).astype(np.float32)
        if self.fault == "one length" and len(rows) == 1 and len(rows[0]) == 96:
            return vectors[:, ::-1]
        if self.fault == "short texts" and min(map(len, rows)) < 20:
            return vectors[:, ::-1]
        return vectors

    def close(self):
        pass


TEXTS = gate_texts(tiny_tokenizer(), TINY_VOCAB, 512, ranks=True)


def verdict(fault, budget):
    return run_one_pass_gate(Candidate(fault), Source(), texts=TEXTS, budget=budget)


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
def test_the_same_vectors_are_accepted(budget):
    result = verdict(None, budget)
    assert result.accepted, result.summary
    assert result.quality["ranking"]["recall_at_10"] == 1.0
    assert min(figure["smallest"] for figure in result.quality["vectors"]["domains"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fault", "budget", "first"),
    [
        ("longer", FP32_BUDGET, "text-1"),  # a cosine does not see it
        ("turned", RELAXED, "text-1"),
        ("nan", RELAXED, "finite"),
        ("rounded", FP32_BUDGET, "text-1"),
        ("short texts", RELAXED, "text-1"),
        ("one length", RELAXED, "cosine"),  # none of the corpus is of this length
        ("one length", FP32_BUDGET, "vectors"),
    ],
)
def test_other_vectors_are_rejected(fault, budget, first):
    result = verdict(fault, budget)
    assert not result.accepted and result.first_failure.name == first


def test_vectors_that_find_other_texts_are_rejected_though_they_point_alike():
    budget = quality_budget(max_mean_kl=0.02, min_cosine=0.9, min_recall=0.99)
    texts = [check for check in verdict("blurred", budget).checks if check.name in ("cosine", "recall@10")]
    assert [(check.name, check.passed) for check in texts] == [("cosine", True), ("recall@10", False)]


def test_rounding_that_keeps_the_order_passes():
    assert verdict("rounded", RELAXED).accepted


def test_padding_that_turns_a_vector_is_found_in_a_reduced_precision():
    class Padded(Candidate):
        def outputs(self, rows, types=None):
            width = max(map(len, rows))
            return super().outputs([[*row, *[0] * (width - len(row))] for row in rows])

    result = run_one_pass_gate(Padded(None), Source(), texts=TEXTS, budget=RELAXED)
    assert result.first_failure.name == "batch-3" and result.first_failure.unit == "1 - cosine"
    assert "how rows or padding are told apart" in result.first_failure.detail


def test_rankings_are_compared_by_hand():
    truth = np.arange(20.0)[None]
    assert compare_rankings(truth, truth).recall[0] == 1.0
    swapped = truth.copy()
    swapped[0, [9, 10]] = swapped[0, [10, 9]]  # the last of the ten nearest and the first behind them
    ranking = compare_rankings(truth, swapped)
    assert ranking.recall[0] == pytest.approx(0.9)
    assert ranking.correlation[0] == pytest.approx(1 - 6 * 2 / (20 * 399))
    assert compare_rankings(truth, -truth).correlation[0] == pytest.approx(-1)
    assert np.isnan(compare_rankings(truth, np.full_like(truth, np.nan)).recall[0])
