from __future__ import annotations

from jisu.benchmarks.report.annotations import workflow_commands
from jisu.benchmarks.report.verdict import Limits, judge
from tests.benchmarks.made_report import made_report


def test_what_regressed_is_an_error_and_what_was_not_compared_a_warning():
    report = made_report()
    baseline = made_report()
    baseline["machine"]["cores"] = 64
    report["verdict"] = judge(report, baseline, Limits(max_kl=0.001))
    failed, quality, warning = workflow_commands(report)
    assert failed.startswith("::error title=jisu compare::broken, measured: failed")
    assert quality.startswith("::error title=jisu compare::int8, mean KL: 0.0054")
    assert warning.startswith("::warning title=jisu compare::Not compared: Speed and memory")


def test_a_report_without_a_verdict_has_none_and_a_line_break_ends_no_annotation():
    report = made_report()
    assert workflow_commands(report) == []
    report["verdict"] = {"cases": [], "notes": [], "not_compared": ["100 %\n::error::forged"]}
    assert workflow_commands(report) == ["::warning title=jisu compare::Not compared: 100 %25%0A::error::forged"]
