from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import open_processes, restored_outcomes
from jisu.benchmarks.compare.timed_process import TimedProcess
from jisu.benchmarks.compare.token_quality import ReferenceFailedError, TokenSets, measure_quality, token_sets
from jisu.exporter.gate.domain_tokens import RANDOM
from jisu.exporter.gate.prompts import gate_prompts
from tests.benchmarks.fake_worker import fake_contestant

SETS = TokenSets(
    texts={"prose": (np.array([1, 1, 1, 2]), np.array([1, 3])), "code": (np.array([2, 1, 1]),)},
    prompts=(np.array([1, 2]), np.array([3])),
    new_tokens=3,
)


def judge(contestants, folder, *, reference=None, sets=SETS):
    """The reference finds token 1 likeliest everywhere, by 4 over all others."""
    journal = Journal(folder, "plan")
    outcomes = restored_outcomes(contestants, [])
    with (
        open_processes(outcomes, needed=lambda _: True, time_limit=60, journal=journal, say=print) as processes,
        TimedProcess((reference or fake_contestant("reference")).command, time_limit=60) as truth,
    ):
        measure_quality(truth, outcomes, processes, sets, journal=journal, say=print)
    return {name: outcome.quality or outcome.failure for name, outcome in outcomes.items()}, journal


def test_figures_are_those_of_the_distributions(tmp_path):
    actual, journal = judge(
        [fake_contestant("same"), fake_contestant("flat", logits="pass")],
        tmp_path,
    )
    same, flat = actual["same"]["sets"]["prose"], actual["flat"]["sets"]["prose"]
    assert (same["mean_kl"], same["top1"], same["tokens"], actual["same"]["sets"]["code"]["tokens"]) == (0.0, 1.0, 4, 2)
    # p is e^4 : 1 seven times, q uniform over 8: KL = log 8 - H(p).
    p = np.exp([4.0] + [0.0] * 7) / (np.exp(4.0) + 7)
    assert flat["mean_kl"] == pytest.approx(np.log(8) + (p * np.log(p)).sum())
    assert flat["perplexity"] == pytest.approx(8.0)
    assert [record["contestant"] for record in journal.records if "quality" in record] == ["same", "flat"]


def test_greedy_answers_are_judged_and_the_first_that_parts_is_named(tmp_path):
    actual, _ = judge(
        [
            fake_contestant("same"),
            fake_contestant("parts", body="tokens = [[1, 1, 5]] if prompts[0] == [3] else [[1] * new_tokens]"),
        ],
        tmp_path,
    )
    assert actual["same"]["greedy"] == {"tokens": 6, "agreement": 1.0, "near_ties": 0, "first_divergence": None}
    parts = actual["parts"]["greedy"]
    assert parts["agreement"] == pytest.approx(5 / 6)
    assert parts["first_divergence"] == {"prompt": 1, "step": 2, "logit_gap": 4.0}


def test_a_near_tie_is_counted_as_one(tmp_path):
    close = "logits[:, 1] = 4; logits[:, 2] = 3.999"
    actual, _ = judge(
        [fake_contestant("b", logits="logits[:, 2] = 4", body="tokens = [[2] * new_tokens]")],
        tmp_path,
        reference=fake_contestant("reference", logits=close),
    )
    assert actual["b"]["sets"]["prose"]["near_ties"] == 4
    assert actual["b"]["sets"]["prose"]["top1"] == 0.0
    assert actual["b"]["greedy"]["near_ties"] == 6
    assert actual["b"]["greedy"]["first_divergence"] is None


def test_logits_that_are_no_numbers_make_a_contestant_fail_and_the_others_go_on(tmp_path):
    actual, _ = judge([fake_contestant("nan", logits="logits[0, 3] = np.nan"), fake_contestant("same")], tmp_path)
    assert "quality: 1 logits of 4 tokens are not finite" in actual["nan"]
    assert actual["same"]["sets"]["prose"]["mean_kl"] == 0.0


def test_an_engine_that_does_not_tell_its_logits_has_its_answers_judged(tmp_path):
    actual, _ = judge([fake_contestant("shy", logits="raise UnsupportedError('not told')")], tmp_path)
    assert (actual["shy"]["sets"], actual["shy"]["reason"]) == ({}, "not told")
    assert actual["shy"]["greedy"]["agreement"] == 1.0


def test_a_reference_without_numbers_is_no_reference(tmp_path):
    with pytest.raises(ReferenceFailedError, match="not all finite"):
        judge([fake_contestant("a")], tmp_path, reference=fake_contestant("r", logits="logits[:] = np.nan"))


def test_a_text_about_itself_begins_with_the_start_token():
    """So does the gate ask a model that turns one text into another; nothing is said of a prompt yet."""
    sets = TokenSets(texts={}, prompts=(), new_tokens=3, start=9)
    fed, source = sets.inputs_for(np.array([4, 5, 6]))
    assert (fed.tolist(), source.tolist()) == ([9, 5, 6], [4, 5, 6])
    begun, source = sets.begun(np.array([4, 5]))
    assert (begun.tolist(), source.tolist()) == ([9], [4, 5])


def test_what_no_answer_may_say_is_no_choice_of_the_reference(tmp_path):
    sets = replace(SETS, texts={}, suppressed=(1,))
    second = fake_contestant("second", body="tokens = [[2] * new_tokens]")
    likes = fake_contestant("reference", logits="logits[:, 1] = 4; logits[:, 2] = 3")
    actual, _ = judge([second], tmp_path, reference=likes, sets=sets)
    assert actual["second"]["greedy"]["agreement"] == 1.0


def test_sets_are_the_domains_of_the_gate():
    prompts = gate_prompts(None, 100, 64)
    sets = token_sets(prompts, tokens=100)
    assert list(sets.texts) == [RANDOM]
    assert [len(window) for window in sets.texts[RANDOM]] == [64, 64]


def test_the_worst_domain_and_the_mean_over_all_are_told(tmp_path):
    actual, _ = judge([fake_contestant("flat", logits="logits[:] = 0")], tmp_path)
    quality = actual["flat"]
    figures = {name: figures["mean_kl"] for name, figures in quality["sets"].items()}
    assert quality["worst"]["domain"] == max(figures, key=lambda name: figures[name])
    assert quality["worst"]["mean_kl"] == max(figures.values())
    assert quality["average"]["mean_kl"] == pytest.approx(sum(figures.values()) / 2)
    assert quality["average"]["domains"] == 2
