from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.one_pass_quality import measure_one_pass_quality, quality_of
from jisu.benchmarks.compare.rounds import open_processes, restored_outcomes
from jisu.benchmarks.compare.timed_process import TimedProcess
from jisu.exporter.contract.artifact import CLASSIFICATION, EMBEDDING, TAGGING
from jisu.exporter.contract.signature import LOGITS
from jisu.exporter.gate.domain_tokens import DomainTokens, Judged
from jisu.exporter.gate.texts import GateTexts
from tests.benchmarks.fake_worker import fake_contestant

# The first token is the label.
FIRST = "numbers[np.arange(len(texts)), [row[0] for row in texts]] = 4"
EACH = "numbers = np.stack([np.eye(3, dtype=np.float32)[row] * 4 for row in texts])"


def row(*ids: int) -> Any:
    return np.array(ids, np.int64)


def texts(**more: Any) -> GateTexts:
    domains = (
        DomainTokens(name="prose", windows=(row(1, 1, 1), row(2))),
        DomainTokens(name="code", windows=(row(1, 2),)),
    )
    return GateTexts(alone=(row(1),), rows=(row(1), row(2)), judged=Judged(domains=domains), text="made", **more)


def model(kind: str, activation: str = "softmax") -> Any:
    """As much of an artifact as is questions for; numbers of three columns, for each token of a tagger."""
    dims = ("B", "T", 3) if kind == TAGGING else ("B", 3)
    signature = SimpleNamespace(outputs=[SimpleNamespace(name=LOGITS, dims=dims)], has_input=lambda name: False)
    facts = SimpleNamespace(vocab_size=3, max_positions=8, activation=activation)
    return SimpleNamespace(
        manifest=SimpleNamespace(model=facts, signature=signature, model_kind=kind), folder=Path("a")
    )


def measured(folder: Path, artifact: Any, questions: GateTexts, truth: str, **numbers: str) -> dict[str, Any]:
    contestants = [fake_contestant(name, numbers=lines) for name, lines in numbers.items()]
    journal = Journal(folder, "plan")
    outcomes = restored_outcomes(contestants, [])
    with (
        open_processes(outcomes, needed=lambda _: True, time_limit=60, journal=journal, say=print) as processes,
        TimedProcess(fake_contestant("reference", numbers=truth).command, time_limit=60) as reference,
    ):
        more = {"model": artifact, "texts": questions, "journal": journal, "say": print}
        measure_one_pass_quality(reference, outcomes, processes, **more)
    kept = [record["contestant"] for record in journal.records if "quality" in record]
    assert kept == [name for name, outcome in outcomes.items() if outcome.failure is None]
    return outcomes


def test_figures_of_labels_are_the_gates_and_faults_take_a_contestant_out(tmp_path):
    outcomes = measured(
        tmp_path,
        model(CLASSIFICATION),
        texts(),
        FIRST,
        same=FIRST,
        one="numbers[:, 1] = 4",
        nan="numbers[:] = np.nan",
        wide="numbers = np.zeros((len(texts), 8), np.float32)",
        shy="raise UnsupportedError('not told')",
    )
    same, one = (outcomes[name].quality["sets"] for name in ("same", "one"))
    assert same["prose"] == {
        "mean_kl": 0.0,
        "top1": 1.0,
        "texts": 2,
        "judges": True,
        "intervals": {"mean_kl": [0.0, 0.0]},
    }
    # Of the second text only, where p and q are e^4 : 1 : 1 in other places: (p - q) * 4.
    kl = 4 * (np.exp(4) - 1) / (np.exp(4) + 2)
    assert one["prose"]["mean_kl"] == pytest.approx(kl / 2)
    assert (one["prose"]["top1"], one["code"]["top1"]) == (0.5, 1.0)
    assert outcomes["one"].quality["worst"]["domain"] == "prose"
    assert outcomes["one"].quality["average"] == {
        "mean_kl": pytest.approx(kl / 4),
        "top1": 0.75,
        "domains": 2,
        "texts": 3,
    }
    assert "3 numbers of 1 texts are not finite" in outcomes["nan"].failure
    assert "numbers (1, 8) where the source has (1, 3)" in outcomes["wide"].failure
    assert (outcomes["shy"].quality["sets"], outcomes["shy"].quality["reason"]) == ({}, "not told")


def test_numbers_that_are_only_near_have_no_agreement(tmp_path):
    outcomes = measured(tmp_path, model(CLASSIFICATION, "none"), texts(), FIRST, far="numbers[:, 1] = 4")
    quality = outcomes["far"].quality
    assert "top1" not in quality["worst"]
    assert "top1" not in quality["average"]
    assert quality["worst"]["mean_kl"] > 0


def test_every_token_of_a_tagger_has_its_tag(tmp_path):
    wrong = f"{EACH}; numbers[:, 0] = [4, 0, 0]"
    outcomes = measured(tmp_path, model(TAGGING), texts(), EACH, same=EACH, wrong=wrong)
    assert outcomes["same"].quality["worst"]["mean_kl"] == 0.0
    sets = outcomes["wrong"].quality["sets"]
    assert sets["prose"]["top1"] == pytest.approx(0.5)  # two of four tokens
    assert sets["code"]["top1"] == pytest.approx(0.5)


def test_vectors_have_cosines_by_domain_and_what_they_find(tmp_path):
    corpus = tuple(row(*ids) for ids in np.random.default_rng(0).integers(0, 3, (12, 4)))
    questions = texts(queries=(row(0), row(1), row(2)), corpus=corpus)
    # How often a text has each token; and the same with one axis turned around where there are several.
    counts = "numbers = np.array([[row.count(i) for i in range(3)] for row in texts], np.float32)"
    turned = f"{counts}; numbers[[len(row) > 1 for row in texts], 2] *= -1"
    outcomes = measured(tmp_path, model(EMBEDDING), questions, counts, same=counts, turned=turned)
    same, quality = outcomes["same"].quality, outcomes["turned"].quality
    assert same["worst"]["least_cosine"] == pytest.approx(1.0)
    assert same["ranking"]["recall_at_10"] == 1.0
    assert same["ranking"]["intervals"]["recall_at_10"] == [1.0, 1.0]
    assert quality["worst"] == {
        "domain": "code",
        "least_cosine": pytest.approx(0.0),
        "mean_cosine": pytest.approx(0.0),
        "texts": 1,
        "judges": True,
    }
    assert quality["sets"]["prose"]["least_cosine"] == pytest.approx(1.0)
    assert quality["ranking"]["rank_correlation"] < 1.0


def test_the_order_of_documents_is_beside_the_labels():
    item = {"name": "prose", "texts": 6, "mean_kl": 0.1, "top1": 1.0, "intervals": {"mean_kl": [0.0, 0.2]}}
    ranking = {"recall_at_10": 0.9, "recall_interval": [0.8, 1.1], "rank_correlation": 0.97, "queries": 6, "texts": 24}
    judged = SimpleNamespace(left_out=("code: unknown",))
    exam: Any = SimpleNamespace(
        kind=CLASSIFICATION,
        decides=False,
        quality={"domains": [item], "pairs-domains": [{**item, "mean_kl": 0.3}], "ranking": ranking},
        texts=SimpleNamespace(judged=judged),
    )
    quality = quality_of(exam)
    assert list(quality["sets"]) == ["prose", "pairs: prose"]
    assert quality["worst"]["domain"] == "pairs: prose"
    assert quality["ranking"]["intervals"]["recall_at_10"] == [0.8, 1.0]
    assert quality["not_judged"] == ["code: unknown"]
