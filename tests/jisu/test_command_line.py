"""The front door finds verbs and names lazily and turns every way to end into its exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jisu
from jisu import command_line
from jisu.exporter.contract.errors import GateRejectedError, InputError

ROOT = Path(jisu.__file__).parents[1]
Outcome = Callable[[argparse.Namespace], int]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Outcome], str]]:
    """Register a verb ``try`` whose run does what the test says."""

    def register(run: Outcome) -> str:
        module = types.ModuleType("tried_verb")
        module.add_arguments = lambda parser: parser.add_argument("--precision")  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tried_verb", module)
        monkeypatch.setitem(command_line.VERBS, "try", ("tried_verb", "do what the test says"))
        return "try"

    yield register


def raising(error: BaseException) -> Outcome:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


def test_exit_code_and_arguments_pass_through(verb: Callable[[Outcome], str]) -> None:
    seen: list[str] = []
    verb(lambda arguments: seen.append(arguments.precision) or 7)  # type: ignore[func-returns-value]
    assert jisu.main(["try", "--precision", "fp32"]) == 7
    assert seen == ["fp32"]


@pytest.mark.parametrize(("error", "code"), [(InputError("It is bad"), 2), (GateRejectedError("It differs"), 3)])
def test_a_users_error_is_one_line_without_traceback(
    verb: Callable[[Outcome], str], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    verb(raising(error))
    assert jisu.main(["try"]) == code
    assert capsys.readouterr().err == f"jisu try: error: {error}\n"


def test_our_bug_is_a_traceback_and_a_request_to_report_it(
    verb: Callable[[Outcome], str], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(ZeroDivisionError("oops")))
    assert jisu.main(["try"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err
    assert "Please report it" in err


def test_interrupt_is_130_without_traceback(verb: Callable[[Outcome], str], capsys: pytest.CaptureFixture[str]) -> None:
    verb(raising(KeyboardInterrupt()))
    try:
        code = jisu.main(["try"])
    except KeyboardInterrupt:
        pytest.fail("the interrupt got through")
    assert code == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("raised", [ImportError("numpy failed to import"), InputError("It is not installed")])
def test_an_interrupt_that_an_import_turned_into_another_error_is_130(
    verb: Callable[[Outcome], str], capsys: pytest.CaptureFixture[str], raised: Exception
) -> None:
    def run(arguments: argparse.Namespace) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise raised from interrupt

    verb(run)
    assert jisu.main(["try"]) == 130
    assert capsys.readouterr().err == "\n"


@pytest.mark.parametrize("length", [1, 1_000_000], ids=["still buffered", "written at once"])
def test_broken_pipe_is_quiet(length: int) -> None:
    script = (
        "import argparse, sys, types, jisu.command_line as command_line\n"
        "module = types.ModuleType('tried_verb')\n"
        "module.add_arguments = lambda parser: None\n"
        f"module.run = lambda arguments: sys.stdout.write('x' * {length}) * 0\n"
        "sys.modules['tried_verb'] = module\n"
        "command_line.VERBS['try'] = ('tried_verb', 'write much')\n"
        "sys.exit(command_line.main(['try']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["exprot"], "did you mean export?"),
        (["zzz"], "choose from export"),
        (["--versio"], "did you mean --version?"),
        (["inspect", "x", "--hases"], "did you mean --hashes?"),
        (["inspect", "x", "--hases=1"], "did you mean --hashes?"),
        (["inspect", "--hash", "x"], "unknown option --hash"),
        (["inspect"], "required"),
        (["inspect", "x", "y"], "unrecognized arguments: y"),
    ],
)
def test_wrong_usage_is_2_and_names_the_nearest(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert jisu.main(words) == 2
    assert expected in capsys.readouterr().err


def test_words_after_two_dashes_are_no_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["inspect", "--", "--hases"]) == 2
    assert "--hases is not an artifact" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["M", "--max-new-tokens", "5", "--", "--hello"],
        ["M", "--max-new-tokens=5", "--", "--hello"],
        ["--max-new-tokens", "5", "--", "M", "--hello"],
        ["--max-new-tokens", "5", "M", "--", "--hello"],
    ],
    ids=" ".join,
)
def test_two_dashes_let_a_prompt_begin_with_dashes(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    from jisu.runtimes.commands import generate

    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(generate, "run", lambda arguments: seen.append(arguments) or 0)  # type: ignore[func-returns-value]
    assert jisu.main(["generate", *words]) == 0
    assert (seen[0].artifact, seen[0].prompt, seen[0].max_new_tokens) == ("M", "--hello", 5)


def test_a_prompt_that_begins_with_dashes_and_has_blanks_is_no_option(
    verb: Callable[[Outcome], str],
) -> None:
    verb(lambda arguments: 0 if arguments.precision == "-- what is this?" else 9)
    assert jisu.main(["try", "--precision=-- what is this?"]) == 0


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in command_line.VERBS)


def test_no_verb_shows_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main([]) == 2
    assert "verbs:" in capsys.readouterr().err


def test_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("jisu ")


@pytest.mark.parametrize("name", list(command_line.VERBS))
def test_every_verb_has_its_two_functions_and_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(command_line.VERBS[name][0])
    assert callable(module.add_arguments)
    assert callable(module.run)
    assert jisu.main([name, "--help"]) == 0
    assert f"usage: jisu {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(jisu.NAMES))
def test_every_public_name_is_the_packages_own(name: str) -> None:
    assert getattr(jisu, name) is getattr(importlib.import_module(jisu.NAMES[name]), name)


def test_public_names_and_all_agree() -> None:
    assert sorted(jisu.NAMES) == sorted(jisu.__all__)


def test_dir_lists_the_public_names() -> None:
    assert set(jisu.__all__) | {"__version__"} == set(dir(jisu))


def test_the_version_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jisu {jisu.__version__}\n"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="exprot"):
        jisu.exprot  # noqa: B018


def test_help_takes_at_most_300_ms() -> None:
    # CPU time, the best of three: a busy machine makes a run slower, never faster.
    times = []
    for _ in range(3):
        begun = os.times()
        subprocess.run([sys.executable, "-m", "jisu", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        ended = os.times()
        times.append(ended.children_user - begun.children_user + ended.children_system - begun.children_system)
    assert min(times) <= 0.3
