"""The gate of models with a row of numbers for each token, on backends that are wrong in one way each."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.gate.one_pass import run_one_pass_gate
from jisu.exporter.gate.texts import gate_texts
from jisu.exporter.precision.budget import FP32_BUDGET, quality_budget
from tests.support.models import TINY_VOCAB, word_tokenizer

RELAXED = quality_budget(max_mean_kl=0.02, min_top1=0.93)
COLUMNS = {"token-classification": 5, "fill-mask": TINY_VOCAB, "question-answering": 2}
KINDS = tuple(COLUMNS)


class Source:
    """Numbers from a token, its neighbours, and, of pairs, the text that it is of."""

    description, activation = "a table", "softmax"

    def __init__(self, kind):
        self.kind, self.columns = kind, COLUMNS[kind]
        self.table = np.random.default_rng(0).standard_normal((TINY_VOCAB, self.columns)).astype(np.float32)

    def logits(self, token_ids, positions=None, types=None):
        rows = self.table[np.asarray(token_ids)]
        after = np.concatenate([rows[1:], rows[:1]])
        numbers = 3 * rows + after + rows.mean(axis=0)
        return numbers if types is None else numbers + 2 * np.asarray(types, np.float32)[:, None] * self.table[1]


class Candidate:
    name, vocab_size, max_positions, per_token, takes_unequal = "candidate", TINY_VOCAB, None, True, True

    def __init__(self, kind, fault):
        self.fault, self.source = fault, Source(kind)
        self.columns = self.source.columns

    def outputs(self, rows, types=None):
        width = max(map(len, rows))
        answer = np.zeros((len(rows), width, self.columns), np.float32)
        for index, row in enumerate(rows):
            seen = [*row, *[0] * (width - len(row))] if self.fault == "mask" else row
            kept = None if types is None or self.fault == "types" else [*types[index], *[0] * (len(seen) - len(row))]
            numbers = self.source.logits(seen, types=kept)
            if self.fault == "shifted":
                numbers = np.roll(numbers, 1, axis=0)
            if self.fault == "columns":
                numbers = numbers[:, ::-1]
            if self.fault == "rounded":
                numbers = np.round(numbers, 1)
            if self.fault == "masked words" and 4 in row:
                numbers = np.where(np.array(seen)[:, None] == 4, numbers[:, ::-1], numbers)
            answer[index, : len(seen)] = numbers
        answer[:, 0] += np.nan if self.fault == "nan" else 0
        return answer

    def close(self):
        pass


def verdict(kind, fault, budget=FP32_BUDGET):
    pairs = kind == "question-answering"
    texts = gate_texts(word_tokenizer(), TINY_VOCAB, 512, pairs=pairs, takes_types=pairs, mask=4)
    return run_one_pass_gate(Candidate(kind, fault), Source(kind), texts=texts, budget=budget)


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_is_accepted(kind, budget):
    result = verdict(kind, None, budget)
    assert result.accepted, result.summary
    name = {"token-classification": "tags", "fill-mask": "words", "question-answering": "answers"}[kind]
    names = [check.name for check in result.checks]
    assert names[-1:] == [name] if budget is FP32_BUDGET else names[-2:] == ["mean-kl", "top-1"]
    if budget is RELAXED:
        assert len(result.quality["domains"]) > 1


@pytest.mark.parametrize("budget", [FP32_BUDGET, RELAXED])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["mask", "shifted", "columns", "nan"])
def test_a_fault_is_found(fault, kind, budget):
    assert not verdict(kind, fault, budget).accepted


def test_words_at_masked_places_are_asked_for():
    assert verdict("fill-mask", "masked words").first_failure.name == "words"
    assert verdict("fill-mask", "masked words", RELAXED).first_failure.name == "mean-kl"


def test_types_of_pairs_are_asked_for():
    assert verdict("question-answering", "types").first_failure.name == "pairs-batch-3"
    assert not verdict("question-answering", "types", RELAXED).accepted


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_passes_a_reduced_precision_only(kind):
    assert verdict(kind, "rounded", RELAXED).accepted
    assert not verdict(kind, "rounded").accepted
