"""What a manifest may hold; `test_artifact` checks the same through a folder."""

from __future__ import annotations

import pytest

from jisu.exporter.contract.manifest_rules import manifest_problems


def test_entries_that_are_missing_are_left_to_the_reader() -> None:
    assert manifest_problems({}) == []


def test_a_long_value_is_shown_shortened() -> None:
    (problem,) = manifest_problems({"target": ["x" * 1000]})
    assert len(problem) < 100


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompts", {"query": 1}), ("prompts", []), ("pooling", "mean"), ("normalized", 1), ("default_prompt", 0)],
)
def test_what_belongs_to_vectors_is_of_its_kind(name: str, value: object) -> None:
    (problem,) = manifest_problems({"model": {"embedding": {name: value}}})
    assert problem.startswith(f"model.embedding.{name} is ")
    assert manifest_problems({"model": {"embedding": {"prompts": {"query": "find: "}, "pooling": ["mean"]}}}) == []
