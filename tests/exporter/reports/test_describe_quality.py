from __future__ import annotations

from jisu.exporter.reports.describe_quality import describe_quality, describe_worst

CODE = {"name": "code", "judges": True, "mean_kl": 0.05, "top1": 0.9, "tokens": 255}
PROSE = {**CODE, "name": "prose", "mean_kl": 0.01, "intervals": {"mean_kl": [0.008, 0.012]}}
NOISE = {**CODE, "name": "noise", "judges": False, "mean_kl": 9.0}
GATE = {"quality": {"domains": [PROSE, CODE, NOISE]}}


def test_the_worst_domain_that_judges_comes_first():
    title, *rows = describe_quality(GATE)
    assert title.split() == ["domain", "mean", "KL", "top-1", "tokens"]
    assert [row.split()[0] for row in rows] == ["code", "prose", "noise"]
    assert "0.01 (0.008 to 0.012)" in rows[1]
    assert "noise (not judged)" in rows[2]


def test_the_worst_domain_in_one_sentence():
    assert describe_worst(GATE) == (
        "mean KL 0.05 nats in the worst domain, code; 0.03 over all 2 domains of held-out text"
    )


def test_one_domain_needs_no_sentence_and_a_strange_record_no_table():
    assert describe_worst({"quality": {"domains": [CODE]}}) is None
    assert describe_worst({}) is None
    for strange in ({}, {"quality": None}, {"quality": {"domains": 3}}, {"quality": {"domains": ["x", {}]}}):
        assert describe_quality(strange) == []


def test_a_figure_that_is_no_number_is_shown_and_is_the_worst():
    broken = {**CODE, "name": "broken", "mean_kl": "nan"}
    rows = describe_quality({"quality": {"domains": [PROSE, broken]}})
    assert rows[1].startswith("broken")
    assert "nan" in rows[1]


def test_vectors_are_described_by_what_they_find():
    figures = [
        {"name": "code", "texts": 6, "mean": 0.999, "smallest": 0.991},
        {"name": "arabic", "texts": 6, "mean": 0.995, "smallest": 0.981},
    ]
    ranking = {"texts": 264, "queries": 66, "recall_at_10": 0.985, "rank_correlation": 0.99954}
    gate = {"quality": {"vectors": {"domains": figures, "texts": 12}, "ranking": ranking}}
    assert describe_worst(gate) == (
        "cosine with the source's vectors 0.98100 or more, lowest in arabic; recall@10 0.985, rank correlation 0.99954"
    )
    table = describe_quality(gate)
    assert "smallest cosine" in table[0] and table[1].startswith("arabic")
    assert describe_worst({"quality": {"vectors": {"domains": [], "texts": 0}}}) is None
