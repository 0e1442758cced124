from __future__ import annotations

import json

from jisu.benchmarks.report.outcome import outcome_of
from jisu.benchmarks.report.verdict import Limits, judge
from tests.benchmarks.made_report import made_report


def test_a_script_reads_the_verdict_and_the_figures() -> None:
    report = made_report()
    report["verdict"] = judge(report, None, Limits(max_kl=0.001, max_slowdown=0.1))
    found = json.loads(json.dumps(outcome_of(report)))
    assert found["passed"] is False
    assert [(case["row"], case["metric"]) for case in found["regressed"]] == [
        ("broken", "measured"),
        ("int8", "mean KL"),
    ]
    assert "no --baseline was given" in found["not_compared"][0]
    assert [row["name"] for row in found["rows"]] == ["fp32", "int8", "broken"]
    assert found["rows"][1]["figures"]["decode"] == 120.0
    assert found["rows"][2] == {"name": "broken", "failure": report["rows"][2]["failure"], "figures": {"size": 1}}


def test_without_limits_everything_passed() -> None:
    found = outcome_of(made_report())
    assert (found["passed"], found["regressed"], found["not_compared"]) == (True, [], [])
