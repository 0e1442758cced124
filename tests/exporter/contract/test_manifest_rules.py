"""What a manifest may hold; `test_artifact` checks the same through a folder."""

from __future__ import annotations

from jisu.exporter.contract.manifest_rules import manifest_problems


def test_entries_that_are_missing_are_left_to_the_reader() -> None:
    assert manifest_problems({}) == []


def test_a_long_value_is_shown_shortened() -> None:
    (problem,) = manifest_problems({"target": ["x" * 1000]})
    assert len(problem) < 100
