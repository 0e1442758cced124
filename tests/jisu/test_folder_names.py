"""The folders' names give the same modules as those below `jisu`; each is tried in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("first", ["import runtimes.generation as short", "import jisu.runtimes.generation, runtimes"])
def test_a_module_is_the_same_under_both_names(first: str) -> None:
    code = (
        f"{first}\nimport runtimes.generation as short, jisu.runtimes.generation as long\n"
        "from exporter.errors import InputError\nfrom jisu import InputError as ours\n"
        "assert short is long and InputError is ours\n"
        "print(short.__name__, short.__spec__.name, short.__spec__.loader is not None)"
    )
    assert run("-c", code) == "jisu.runtimes.generation jisu.runtimes.generation True"


def test_public_names_come_from_a_folder() -> None:
    code = "import jisu\nfrom exporter import export\nfrom runtimes import load\n"
    code += "print(export is jisu.export, load is jisu.load)"
    assert run("-c", code) == "True True"


def test_a_missing_module_is_named() -> None:
    code = "try:\n    import exporter.nowhere\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    assert run("-c", code) == "exporter.nowhere"


def test_a_module_runs_as_a_program() -> None:
    assert "--mutants" in run("-m", "benchmarks.robustness", "--help")
    assert run("-m", "jisu", "--version").startswith("jisu ")
