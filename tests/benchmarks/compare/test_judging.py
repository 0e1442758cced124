from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jisu.benchmarks.compare.judging import _references

MODEL: Any = SimpleNamespace(folder=Path("build/int8"))


def outcome(name: str, precision: str, failure: str | None = None) -> Any:
    contestant = SimpleNamespace(name=name, facts={"precision": precision}, command=("run", name))
    return SimpleNamespace(contestant=contestant, failure=failure)


OUTCOMES = {"a": outcome("a", "int8"), "b": outcome("b", "fp32"), "c": outcome("c", "fp32", "it died")}


def test_where_the_source_is_gone_an_fp32_artifact_that_runs_is_the_truth() -> None:
    assert [name for name, _ in _references(MODEL, OUTCOMES, source=None, threads=1)] == ["source", "b"]


def test_nothing_takes_the_place_of_a_source_that_was_named() -> None:
    ((name, command),) = _references(MODEL, OUTCOMES, source="elsewhere", threads=1)
    assert (name, command[-1]) == ("source", "elsewhere")
