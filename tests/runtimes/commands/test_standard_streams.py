"""The verbs with odd standard streams, each in a process of its own: only there are the streams real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jisu

ROOT = Path(jisu.__file__).parents[1]
WRITES = """
import argparse, sys, types, jisu.command_line
from jisu.runtimes.commands.standard_streams import write_json
def run(arguments):
    {body}
    return 0
module = types.ModuleType("tried_verb")
module.add_arguments = lambda parser: None
module.run = run
sys.modules["tried_verb"] = module
jisu.command_line.VERBS["try"] = ("tried_verb", "do what the test says")
sys.exit(jisu.main(["try"]))
"""


def run(body: str, *, redirect: str = "", encoding: str = "utf-8", inputs: bytes = b"") -> tuple[int, bytes, str]:
    """Exit code, output and errors of a verb with this body, its streams redirected by a shell."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", sys.executable, "-c", WRITES.format(body=body)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        input=inputs,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("body", ["sys.stdout.write('x')", "print('x' * 100_000)", "sys.exit(jisu.main(['--help']))"])
def test_a_full_device_is_one_line_and_2(body: str) -> None:
    code, _, err = run(body, redirect=">/dev/full")
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_a_closed_output_is_one_line_and_2() -> None:
    code, _, err = run("sys.stdout.write('x')", redirect=">&-")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("jisu try: error: There is no standard output.")


def test_closed_input_and_error_streams_are_empty_ones() -> None:
    assert run("sys.stdout.write(repr(sys.stdin.read()))", redirect="<&-")[:2] == (0, b"''")
    assert run("sys.stderr.write('x'); sys.stdout.write('y')", redirect="2>&-")[:2] == (0, b"y")


def test_an_answer_does_not_break_off_at_a_character_that_cannot_be_shown() -> None:
    assert run("sys.stdout.write('a \u4e16 b')", encoding="ascii") == (0, b"a \\u4e16 b", "")


def test_json_stays_json_in_any_encoding() -> None:
    code, out, _ = run("write_json({{'text': '\U0001f389'}})".replace("{{", "{").replace("}}", "}"), encoding="ascii")
    assert (code, json.loads(out)) == (0, {"text": "\U0001f389"})
    assert run("write_json('\u4e16')")[1].decode() == '"\u4e16"\n'


def test_bytes_of_another_encoding_come_in_as_surrogates() -> None:
    assert run("sys.stdout.write(ascii(sys.stdin.read()))", inputs=b"\xff")[:2] == (0, b"'\\udcff'")
