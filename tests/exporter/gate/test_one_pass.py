"""The gate of a classifier on backends that are wrong in one way each."""

from __future__ import annotations

import re

import numpy as np
import pytest

from jisu.exporter.gate.one_pass import run_one_pass_gate
from jisu.exporter.gate.texts import gate_texts
from jisu.exporter.precision.budget import FP32_BUDGET, quality_budget

VOCAB, LABELS, PAD = 64, 3, 0
RELAXED = quality_budget(max_mean_kl=0.02, min_top1=0.93)


class Source:
    """Logits from the mean of random vectors of a text's tokens."""

    columns = LABELS
    kind = "text-classification"
    description = "a table"
    activation = "softmax"

    def __init__(self):
        self.table = np.random.default_rng(0).standard_normal((VOCAB, LABELS)).astype(np.float32)

    def logits(self, token_ids, positions=None):
        return 3 * self.table[np.asarray(token_ids)].mean(axis=0, keepdims=True)


class Candidate:
    """The same, through padded batches, with a fault where one is wanted."""

    name, vocab_size, max_positions, columns, per_token = "candidate", VOCAB, None, LABELS, False

    def __init__(self, fault=None, *, takes_unequal=True):
        self.fault, self.takes_unequal, self.source = fault, takes_unequal, Source()

    def outputs(self, rows, types=None):
        assert self.takes_unequal or len({len(row) for row in rows}) == 1
        width = max(map(len, rows))
        actual = []
        for row in rows:
            seen = [*row, *[PAD] * (width - len(row))] if self.fault == "mask" else row
            actual.append(self.source.logits(seen)[0])
        logits = np.stack(actual)
        if self.fault == "labels":
            logits = logits[:, [1, 0, 2]]
        if self.fault == "rows":
            logits = np.roll(logits, 1, axis=0)
        if self.fault == "nan":
            logits[0, 1] = np.nan
        if self.fault == "shape":
            logits = logits[:, :2]
        if self.fault == "broken":
            raise RuntimeError("no such operator")
        if self.fault == "length" and width > 100:
            logits = logits + np.array([0.5, 0, 0], np.float32)
        if self.fault == "slightly-off" and width > 100:
            logits = logits + np.array([1e-3, 0, 0], np.float32)  # 5e-4 standard deviations
        if self.fault == "rounding":
            logits = np.round(logits, 2)
        return logits

    def close(self):
        pass


def verdict(fault=None, budget=FP32_BUDGET, **options):
    texts = gate_texts(None, VOCAB)
    return run_one_pass_gate(Candidate(fault, **options), Source(), texts=texts, budget=budget)


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize("takes_unequal", [True, False])
def test_the_same_model_is_accepted(budget, takes_unequal):
    result = verdict(budget=budget, takes_unequal=takes_unequal)
    assert result.accepted, result.summary
    names = [check.name for check in result.checks]
    assert names[:7] == ["columns", "finite", "text-1", "text-2", "text-37", "text-300", "batch-3"]


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize(
    ("fault", "first", "words"),
    [
        ("mask", "batch-3", "how rows or padding are told apart"),
        ("rows", "batch-3", "the rows are mixed up"),
        ("labels", "text-1", "the labels' are at fault"),
        ("nan", "finite", "NaN or infinity among the logits, first in a text of 1 token"),
        ("shape", "text-1", r"logits of shape \(1, 2\)"),
        ("broken", "text-1", "could not be run. RuntimeError: no such operator"),
    ],
)
def test_a_fault_is_found_and_named(fault, first, words, budget):
    result = verdict(fault, budget)
    assert not result.accepted
    if fault == "labels" and budget is RELAXED:  # one text has too few labels to tell them from rounding
        first, words = "mean-kl", "mean-kl over the labels"
    assert result.first_failure.name == first
    assert re.search(words, result.first_failure.detail)


def test_a_fault_of_long_texts_is_found():
    assert verdict("length").first_failure.name == "text-300"


def test_what_float32_does_not_explain_is_found():
    """Tokens far behind that are taken for padding moved a small model's logits by no more than this."""
    failure = verdict("slightly-off").first_failure
    assert failure.name == "text-300" and 2e-4 == failure.limit < failure.value < 2e-3


def test_rounding_passes_a_reduced_precision_only():
    assert verdict("rounding", RELAXED).accepted
    assert not verdict("rounding", FP32_BUDGET).accepted


def test_another_number_of_labels_ends_the_gate():
    candidate = Candidate()
    candidate.columns = 2
    result = run_one_pass_gate(candidate, Source(), texts=gate_texts(None, VOCAB), budget=FP32_BUDGET)
    assert [(check.name, check.passed) for check in result.checks] == [("columns", False)]
