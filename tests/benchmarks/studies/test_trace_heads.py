from __future__ import annotations

from jisu.benchmarks.studies.trace_heads import all_entries, examine
from jisu.exporter.reports.heads import HEADS


def test_entries_are_those_of_transformers_tables():
    entries = all_entries()
    assert {"SequenceClassification/qwen3", "MaskedLM/bert", "QuestionAnswering/bart"} <= set(entries)
    assert {entry.partition("/")[0] for entry in entries} == set(HEADS)


def test_a_head_that_passes_is_measured_and_one_that_does_not_has_a_reason(tmp_path):
    head = examine("TokenClassification/distilbert", tmp_path)
    assert (head.passes, head.reason, head.model_type) == (True, None, "distilbert")
    assert head.worst is not None and 0 < head.worst < 2e-4
    broken = examine("TokenClassification/nobody", tmp_path)
    assert not broken.passes and str(broken.reason).startswith(
        "A small model of its default configuration does not run"
    )
