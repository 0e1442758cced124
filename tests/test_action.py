"""The GitHub action: its scripts are run with a `jisu` that writes down what it was asked for."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import jisu
from jisu.benchmarks.commands import compare as compare_command
from jisu.exporter.commands import export as export_command

ROOT = Path(jisu.__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}


def run(name: str, folder: Path, **given: str) -> list[list[str]]:
    """Run a step's script with its inputs; returns the words of every call of `jisu`, `gh` and `python`."""
    inputs = {key: str(item.get("default", "")) for key, item in ACTION["inputs"].items()} | given
    variables = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], value)
        for key, value in STEPS[name].get("env", {}).items()
    }
    variables = {key: value for key, value in variables.items() if "${{" not in value}
    return run_script(STEPS[name]["run"], folder, **variables)


def run_script(script: str, folder: Path, **variables: str) -> list[list[str]]:
    """Run a script with programs that only note what they were called with; returns the words of each call."""
    log = folder / "log"
    log.touch()
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("jisu", "gh", "python", "pip", "curl"):
        program = folder / "bin" / name
        # What `gh` finds, and whether it may.
        more = "test ! -e forbidden && cat earlier 2> /dev/null" if name == "gh" else ""
        program.write_text(f'#!/bin/bash\nprintf "%q " {name} "$@" >> {log}\necho >> {log}\n{more}\n')
        program.chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    # As GitHub runs a step with `shell: bash`.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    subprocess.run(command, env=environment, cwd=folder, check=True)
    return [shlex.split(line) for line in log.read_text().splitlines()]


def parser_of(module: object) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser


def test_every_precision_is_exported_with_options_that_exist(tmp_path: Path) -> None:
    calls = run("Export and verify", tmp_path, checkpoint="my model", precisions="fp32 int8")
    assert [call[:2] for call in calls] == [["jisu", "export"]] * 2
    parsed = [parser_of(export_command).parse_args(call[2:]) for call in calls]
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
    parsed = parser_of(compare_command).parse_args(calls[0][2:])
    assert list(map(str, parsed.artifacts)) == ["jisu-build/fp32", "jisu-build/int8"]
    assert (parsed.max_slowdown, parsed.max_kl) == (0.1, 0.08)
    assert parsed.baseline == (Path("base.json") if there else None)
    assert f"{parsed.out}/report.json" == ACTION["outputs"]["report"]["value"].replace(
        "${{ inputs.out }}", "jisu-build"
    )


def test_every_input_that_is_used_is_declared_and_the_other_way_round() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])


def test_the_package_is_installed_with_its_pins(tmp_path: Path) -> None:
    [call] = run_script(STEPS["Install jisu"]["run"], tmp_path, GITHUB_ACTION_PATH=str(ROOT))
    assert call[:4] == ["python", "-m", "pip", "install"]
    assert (ROOT / "constraints.txt").samefile(call[call.index("-c") + 1])
    assert call[-1] == f"{ROOT}[cpu,export,report]"


VARIABLES = {
    "OUT": "out",
    "GITHUB_STEP_SUMMARY": "summary",
    "NUMBER": "7",
    "GITHUB_REPOSITORY": "me/mine",
    "MARK": "<!-- mine -->",
}


@pytest.mark.parametrize("there", [True, False])
def test_the_table_is_shown_or_that_there_is_none(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "out" / "report").mkdir(parents=True)
        (tmp_path / "out" / "report" / "report.md").write_text("the table")
    run_script(STEPS["Show the table"]["run"], tmp_path, **VARIABLES)
    assert (tmp_path / "summary").read_text().startswith("the table" if there else "Nothing was compared")
    assert (tmp_path / "out" / "report" / "report.md").read_text() == (tmp_path / "summary").read_text()


@pytest.mark.parametrize(("earlier", "asked"), [("", ["POST", "issues/7"]), ("31", ["PATCH", "issues/comments/31"])])
def test_the_table_is_one_comment_that_the_next_run_replaces(tmp_path: Path, earlier: str, asked: list[str]) -> None:
    (tmp_path / "out" / "report").mkdir(parents=True)
    (tmp_path / "out" / "report" / "report.md").write_text("the table")
    (tmp_path / "earlier").write_text(earlier)
    calls = run_script(STEPS["Comment the table"]["run"], tmp_path, **VARIABLES, TMPDIR=str(tmp_path))
    look, write = calls
    assert look[:4] == ["gh", "api", "--paginate", "repos/me/mine/issues/7/comments"]
    assert all(part in " ".join(write) for part in asked)
    text = Path(write[-1].removeprefix("body=@"))
    assert text.read_text() == "<!-- mine -->\n\nthe table"


def test_a_comment_that_may_not_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "out" / "report").mkdir(parents=True)
    (tmp_path / "out" / "report" / "report.md").write_text("the table")
    (tmp_path / "forbidden").touch()
    assert run_script(STEPS["Comment the table"]["run"], tmp_path, **VARIABLES, TMPDIR=str(tmp_path))


@pytest.mark.parametrize("kind", ["github-actions", "github-workflows", "gitlab-ci"])
def test_the_action_and_the_documented_jobs_are_of_their_schema(tmp_path: Path, kind: str) -> None:
    """The schemas are those that the checking package carries."""
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    texts = dict(zip(["github-actions", "github-workflows", "gitlab-ci"], [action, *documented_jobs()], strict=True))
    path = tmp_path / "checked.yml"
    path.write_text(texts[kind], encoding="utf-8")
    words = [
        "--builtin-schema",
        f"vendor.{kind}",
        *(["--data-transform", kind] if kind == "gitlab-ci" else []),
        str(path),
    ]
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def documented_jobs() -> list[str]:
    """The YAML of the two examples, GitHub's and GitLab's."""
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_jobs_use_what_there_is(tmp_path: Path) -> None:
    github, gitlab = (yaml.safe_load(block) for block in documented_jobs())
    [step] = [step for step in github["jobs"]["compare"]["steps"] if "jisu" in step["uses"]]
    assert set(step["with"]) <= set(ACTION["inputs"])
    job = gitlab["compare-model"]
    pip, export, compare = run_script("\n".join(job["script"]), tmp_path)
    assert pip[0] == "pip"
    assert str(parser_of(export_command).parse_args(export[2:]).report) in job["artifacts"]["reports"]["junit"]
    parsed = parser_of(compare_command).parse_args(compare[2:])
    assert f"{parsed.out}/junit.xml" in job["artifacts"]["reports"]["junit"]
    assert job["artifacts"]["paths"] == [str(parsed.out)]
    (tmp_path / "build" / "report").mkdir(parents=True)
    (tmp_path / "build" / "report" / "report.md").touch()
    variables = {"CI_MERGE_REQUEST_IID": "3", "CI_API_V4_URL": "https://lab", "CI_PROJECT_ID": "5", "JISU_TOKEN": "t"}
    call = run_script("\n".join(job["after_script"]), tmp_path, **variables)[-1]
    assert call[0] == "curl"
    assert call[-1] == "https://lab/projects/5/merge_requests/3/notes"
