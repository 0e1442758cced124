"""The errors say all their parts and carry their exit code."""

from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import GateRejectedError, InputError, JisuError, MissingDependencyError


def test_message_has_the_four_parts_in_order() -> None:
    error = InputError(
        "Block size 48 does not divide K=896", received=48, allowed="16, 32 or 64", fix="Use one of these."
    )
    assert str(error) == "Block size 48 does not divide K=896. Received: 48. Allowed: 16, 32 or 64. Use one of these."


def test_parts_not_given_are_left_out() -> None:
    assert str(JisuError("It failed")) == "It failed."


def test_a_received_zero_or_empty_text_is_still_shown() -> None:
    assert "Received: 0." in str(JisuError("It failed", received=0))
    assert "Received: ''." in str(JisuError("It failed", received=""))


def test_a_sentence_that_ends_itself_gets_no_second_mark() -> None:
    assert str(JisuError("Is it there?", fix="Look!")) == "Is it there? Look!"


def test_missing_dependency_names_the_exact_install_line() -> None:
    error = MissingDependencyError("onnxruntime", extra="cpu", needed_for="The gate")
    assert str(error) == (
        "The gate needs the package onnxruntime, which is not installed. Install it with: pip install 'jisu[cpu]'."
    )


@pytest.mark.parametrize(("kind", "code"), [(JisuError, 2), (InputError, 2), (GateRejectedError, 3)])
def test_exit_codes(kind: type[JisuError], code: int) -> None:
    assert kind("It failed").exit_code == code


def test_an_error_in_four_parts_becomes_one_of_ours() -> None:
    from jisu.calibration.errors import TextError

    theirs = TextError("The text is empty", received="0 bytes", allowed="some text", fix="Give another.")
    ours = InputError.of(theirs)
    assert (type(ours), str(ours)) == (InputError, str(theirs))
