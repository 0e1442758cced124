from __future__ import annotations

from jisu.benchmarks.report.metric_case import metric_case


def test_a_case_says_whether_it_regressed():
    actual = metric_case({"name": "int8", "size_bytes": 7}, "size", passed=False, text="too much", now=7, limit=5)
    assert actual == {
        "row": "int8",
        "metric": "size",
        "passed": False,
        "verdict": "regressed",
        "text": "too much",
        "now": 7,
        "before": None,
        "limit": 5,
    }
    assert metric_case({"name": "int8"}, "size", passed=True, text="")["verdict"] == "within the limit"
