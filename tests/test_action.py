"""The GitHub action: its scripts are run with a `jisu` that writes down what it was asked for."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

import benchmarks.commands.compare
import exporter.commands.export
import jisu

ROOT = Path(jisu.__file__).parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}


def run(name: str, folder: Path, **given: str) -> list[list[str]]:
    """Run a step's script with its inputs; returns the words of every call of `jisu`."""
    log = folder / "log"
    program = folder / "bin" / "jisu"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/bash\nprintf "%q " "$@" >> {log}\necho >> {log}\n')
    program.chmod(0o755)
    inputs = {key: str(item.get("default", "")) for key, item in ACTION["inputs"].items()} | given
    variables = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], value)
        for key, value in STEPS[name]["env"].items()
    }
    environment = {**os.environ, **variables, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    # As GitHub runs a step with `shell: bash`.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    subprocess.run(command, env=environment, cwd=folder, check=True)
    return [shlex.split(line) for line in log.read_text().splitlines()]


def parser_of(module: object) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser


def test_every_precision_is_exported_with_options_that_exist(tmp_path: Path) -> None:
    calls = run("Export and prove", tmp_path, checkpoint="my model", precisions="fp32 int8")
    assert [call[0] for call in calls] == ["export", "export"]
    parsed = [parser_of(exporter.commands.export).parse_args(call[1:]) for call in calls]
    assert [(item.checkpoint, item.precision, str(item.report)) for item in parsed] == [
        ("my model", "fp32", "jisu-build/report/gate-fp32.xml"),
        ("my model", "int8", "jisu-build/report/gate-int8.xml"),
    ]


@pytest.mark.parametrize("there", [True, False])
def test_what_was_exported_is_compared_with_a_baseline_where_there_is_one(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "base.json").touch()
    limits = "--max-slowdown 10% --max-kl 0.08"
    calls = run("Compare", tmp_path, precisions="fp32 int8", baseline="base.json", limits=limits)
    parsed = parser_of(benchmarks.commands.compare).parse_args(calls[0][1:])
    assert list(map(str, parsed.artifacts)) == ["jisu-build/fp32", "jisu-build/int8"]
    assert (parsed.max_slowdown, parsed.max_kl) == (0.1, 0.08)
    assert parsed.baseline == (Path("base.json") if there else None)
    assert f"{parsed.out}/report.json" == ACTION["outputs"]["report"]["value"].replace(
        "${{ inputs.out }}", "jisu-build"
    )


def test_every_input_that_is_used_is_declared_and_the_other_way_round() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
