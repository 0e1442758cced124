from __future__ import annotations

from jisu.exporter.sources.reason import reason_of


def test_a_reason_is_one_line() -> None:
    assert reason_of(ValueError("first\n    second")) == "ValueError: first second"


def test_a_long_reason_is_cut() -> None:
    assert len(reason_of(ValueError("x" * 5000))) < 330


def test_an_error_without_text_is_its_name() -> None:
    assert reason_of(KeyError()) == "KeyError"


def test_a_missing_key_is_named() -> None:
    assert reason_of(KeyError("format")) == "nothing under the key 'format'"
