"""The worker asked for what does not simply continue a text: labels, answers about a source, modules of one's own."""

from __future__ import annotations

import pytest

from jisu.benchmarks.compare.run import ComparisonRequest, compare
from jisu.benchmarks.report.report import read_report, write_report
from jisu.benchmarks.report.verdict import Limits, judge
from jisu.exporter.contract.errors import InputError


def compared(folder, out, *workloads, **changes):
    options = {"backends": ("ort-cpu", "torch"), "trials": 3, "threads": 1, **changes}
    return compare(ComparisonRequest(artifacts=(folder,), out=out, workloads=workloads, **options))


def test_classifiers_have_texts_per_second_and_their_labels_judged(tiny_classifier, tmp_path):
    report = compared(tiny_classifier.folder, tmp_path, "short-text", "long-texts-4")
    assert report["task"] == "text-classification"
    for row in report["rows"]:
        assert row["failure"] is None
        figures = row["measured"]["long-texts-4"]
        assert figures["texts_per_s"]["median"] > 0
        assert 0 < figures["latency_s"]["p50"]["median"] <= figures["latency_s"]["p99"]["median"]
        assert (row["load_s"] > 0, row["peak_bytes"] > 1e7, row["size_bytes"] > 0) == (True,) * 3
        worst = row["quality"]["worst"]
        assert (worst["top1"], worst["texts"] > 0) == (1.0, True)
        assert worst["mean_kl"] < 1e-9
        assert row["quality"]["average"]["domains"] >= 20
    assert "BertForSequenceClassification" in report["reference"]["description"]
    assert report["pareto"]
    # It is a baseline as well, and is rendered without words of tokens.
    report["verdict"] = judge(report, read_report(tmp_path / "report.json"), Limits(max_kl=0.1))
    cases = {case["metric"]: case for case in report["verdict"]["cases"] if case["row"] == "artifact (ort-cpu)"}
    assert set(cases) == {"mean KL", "speed on short-text", "speed on long-texts-4"}
    assert " texts/s after " in cases["speed on short-text"]["text"]
    write_report(report, tmp_path)
    page, table = ((tmp_path / name).read_text() for name in ("report.html", "report.md"))
    assert "| latency ms ↓ | latency p99 ms ↓ | KL, worst domain nats ↓ | mean KL, all domains nats ↓ |" in table
    assert "How long a call takes" in page
    assert "tokens a text" in page
    assert "Greedy answers" not in page


def test_vectors_have_what_they_find_beside_their_speed_and_limits_of_it(tiny_embedder, tmp_path):
    report = compared(tiny_embedder.folder, tmp_path, "short-text", trials=1, backends=("ort-cpu",))
    (row,) = report["rows"]
    assert (row["failure"], report["task"]) == (None, "feature-extraction")
    assert row["measured"]["short-text"]["texts_per_s"]["median"] > 0
    assert row["quality"]["ranking"]["recall_at_10"] == 1.0
    assert row["quality"]["worst"]["least_cosine"] > 0.9999
    assert len(row["quality"]["sets"]) == row["quality"]["average"]["domains"] >= 1
    assert "SentenceEmbedder" in report["reference"]["description"]
    report["verdict"] = judge(report, None, Limits(min_cosine=0.9, min_recall=0.9))
    assert {case["metric"]: case["passed"] for case in report["verdict"]["cases"]} == {
        "smallest cosine": True,
        "recall@10": True,
    }


def test_what_turns_a_text_into_another_has_its_encoder_timed_and_answers_judged(text_to_text_artifact, tmp_path):
    report = compared(text_to_text_artifact.folder, tmp_path, "sentence", trials=1)
    for row in report["rows"]:
        assert row["failure"] is None
        figures = row["measured"]["sentence"]
        assert 0 < figures["encode_s"]["median"] < figures["time_to_first_token_s"]["median"]
        assert figures["decode_tokens_per_s"]["median"] > 0
        assert len(row["quality"]["sets"]) >= 20
        assert row["quality"]["worst"]["mean_kl"] < 1e-9
        assert row["quality"]["greedy"]["agreement"] == 1.0
    assert report["rows"][0]["measured"]["sentence"]["share_of_bandwidth"] > 0


def test_a_module_of_ones_own_is_compared_with_its_factory(tmp_path):
    from jisu.exporter import export
    from tests.support.models import tiny_tokenizer

    factory = "tests.support.own_modules:build_recurrent"
    folder = export(factory, tmp_path / "own", tokenizer=tiny_tokenizer()).folder
    report = compared(folder, tmp_path / "report", "batch-4", trials=1, source=factory)
    assert [row["failure"] for row in report["rows"]] == [None, None]
    for row in report["rows"]:
        assert row["measured"]["batch-4"]["decode_tokens_per_s"]["median"] > 0
        assert row["quality"]["worst"]["mean_kl"] < 1e-9


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"workloads": ("short-chat",)}, "no such workload for text-classification"), ({"peers": "."}, "Other engines")],
)
def test_what_is_for_other_models_is_an_error(tiny_classifier, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        compare(ComparisonRequest(artifacts=(tiny_classifier.folder,), out=tmp_path, **changes))
