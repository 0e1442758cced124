"""What classifiers of every kind are asked: several labels at once, estimates, pairs, and the order of documents."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.gate.one_pass import run_one_pass_gate
from jisu.exporter.gate.texts import gate_texts
from jisu.exporter.precision.budget import FP32_BUDGET, quality_budget
from tests.support.models import TINY_VOCAB, word_tokenizer

RELAXED = quality_budget(max_mean_kl=0.02, min_top1=0.93)
HEADS = [("softmax", 3), ("sigmoid", 3), ("sigmoid", 1), ("none", 1), ("none", 2)]


class Source:
    kind, description = "text-classification", "a table"

    def __init__(self, activation, columns):
        self.activation, self.columns = activation, columns
        self.table = np.random.default_rng(0).standard_normal((TINY_VOCAB, columns)).astype(np.float32)

    def logits(self, token_ids, positions=None, types=None):
        ids = np.asarray(token_ids)
        numbers = 12 * self.table[ids].mean(axis=0, keepdims=True)
        return numbers if types is None else numbers + 3 * self.table[ids[np.asarray(types) == 1][0]]


class Candidate:
    name, vocab_size, max_positions, per_token, takes_unequal = "candidate", TINY_VOCAB, None, False, True

    def __init__(self, source, fault):
        self.source, self.fault, self.columns = source, fault, source.columns

    def outputs(self, rows, types=None):
        kept = [None] * len(rows) if types is None or self.fault == "types" else types
        numbers = np.concatenate([self.source.logits(row, types=one) for row, one in zip(rows, kept, strict=True)])
        if self.fault == "sign":
            return -numbers
        if self.fault == "rounded":
            return np.round(numbers, 1)
        if self.fault == "saturated":  # the order is lost where a probability is near 1 or 0, and hardly any other
            return np.clip(numbers, -1.0, 1.0)
        return numbers

    def close(self):
        pass


def verdict(activation, columns, fault, budget):
    source = Source(activation, columns)
    texts = gate_texts(word_tokenizer(), TINY_VOCAB, 512, pairs=True, takes_types=True, ranks_documents=columns == 1)
    return run_one_pass_gate(Candidate(source, fault), source, texts=texts, budget=budget)


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize(("activation", "columns"), HEADS)
def test_the_same_model_is_accepted(activation, columns, budget):
    result = verdict(activation, columns, None, budget)
    assert result.accepted, result.summary
    names = {check.name for check in result.checks}
    assert ("ranking" in names) is (columns == 1)
    assert ("top-1" in names) is (budget is RELAXED and activation != "none" and columns > 1)
    assert {"pairs-batch-3"} < names


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize(("activation", "columns"), HEADS)
@pytest.mark.parametrize("fault", ["sign", "types"])
def test_a_fault_is_found(fault, activation, columns, budget):
    """A model with one label has no other one to be confused with: divergence over labels alone would not see it."""
    assert not verdict(activation, columns, fault, budget).accepted


@pytest.mark.parametrize(("activation", "columns"), HEADS)
def test_rounding_passes_a_reduced_precision_only(activation, columns):
    assert verdict(activation, columns, "rounded", RELAXED).accepted
    assert not verdict(activation, columns, "rounded", FP32_BUDGET).accepted


def test_a_lost_order_of_documents_is_found():
    budget = quality_budget(max_mean_kl=100.0)
    failed = [check.name for check in verdict("sigmoid", 1, "saturated", budget).checks if not check.passed]
    assert "ranking" in failed
