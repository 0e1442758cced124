from __future__ import annotations

import argparse

import pytest

import jisu
from jisu.exporter.commands.calibration_argument import add_calibration_argument


def parse(*words: str) -> list[str] | None:
    parser = argparse.ArgumentParser()
    add_calibration_argument(parser)
    actual: list[str] | None = parser.parse_args(words).calibration
    return actual


def test_it_may_be_given_several_times() -> None:
    assert parse() is None
    assert parse("--calibration", "mixture", "--calibration", "a.txt") == ["mixture", "a.txt"]


@pytest.mark.parametrize(("command", "option"), [("export", "--calibration"), ("calibrate", "--data")])
def test_the_help_says_what_adds_to_the_mixture(capsys: pytest.CaptureFixture[str], command: str, option: str) -> None:
    assert jisu.main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"unless {option} mixture is there as well" in said
