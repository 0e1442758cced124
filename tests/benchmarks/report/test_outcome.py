from __future__ import annotations

import json

from jisu.benchmarks.report.outcome import outcome_of
from jisu.benchmarks.report.verdict import Limits, judge
from tests.benchmarks.made_report import made_report


def test_a_script_reads_the_verdict_and_the_figures() -> None:
    report = made_report()
    report["verdict"] = judge(report, None, Limits(max_kl=0.001, max_slowdown=0.1))
    actual = json.loads(json.dumps(outcome_of(report)))
    assert actual["passed"] is False
    assert [(case["row"], case["metric"]) for case in actual["regressed"]] == [
        ("broken", "measured"),
        ("int8", "mean KL"),
    ]
    assert "no --baseline was given" in actual["not_compared"][0]
    assert [row["name"] for row in actual["rows"]] == ["fp32", "int8", "broken"]
    assert actual["rows"][1]["figures"]["decode"] == 120.0
    assert actual["rows"][2] == {"name": "broken", "failure": report["rows"][2]["failure"], "figures": {"size": 1}}


def test_without_limits_everything_passed() -> None:
    actual = outcome_of(made_report())
    assert (actual["passed"], actual["regressed"], actual["not_compared"]) == (True, [], [])
