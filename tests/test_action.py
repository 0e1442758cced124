"""The GitHub action: its scripts are run in their order with what a runner sets, and a `jisu` that is real or noted."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import jisu
from jisu.benchmarks.commands import compare as compare_command
from jisu.exporter.commands import export as export_command

ROOT = Path(jisu.__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
_EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
# Programs that only note what they were called with.
NOTED = ("gh", "pip", "curl", "python", "jisu")


class Runner:
    """A runner's view of the action: contexts, conditions, outputs of steps, summary; ``uses`` steps are left out.

    Attributes:
        outputs: by step what it has written to $GITHUB_OUTPUT.
        ran: names of the steps that ran.
        said: what all of them printed.
    """

    def __init__(self, folder: Path, *, event: str = "pull_request", **inputs: str) -> None:
        self.folder = folder
        self.inputs = {key: str(item.get("default", "")) for key, item in ACTION["inputs"].items()}
        self.inputs |= {"baseline-branch": "main", **inputs}
        self.event = event
        self.outputs: dict[str, dict[str, str]] = {"python": {"python-path": sys.executable}}
        self.ran: list[str] = []
        self.said = ""
        self.environment = folder / "temp" / "jisu-environment"
        (self.environment / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin").mkdir(exist_ok=True)

    def restore(self, step: str) -> None:
        """Let a cache step find what it looks for."""
        self.outputs[step] = {"cache-hit": "true"}

    def program(self, place: Path, text: str) -> None:
        place.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        place.chmod(0o755)

    def note(self, name: str, more: str = "", *, place: Path | None = None) -> None:
        """Put a program where it is found that notes its words, and then does ``more``."""
        log = self.folder / "log"
        path = (place or self.folder / "bin") / name
        self.program(path, f'printf "%q " {name} "$@" >> {log}\necho >> {log}\n{more}')

    def calls(self, name: str) -> list[list[str]]:
        log = self.folder / "log"
        lines = [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line[0] == name]

    def run(self, *, without: tuple[str, ...] = ("Install jisu",)) -> int:
        """Run the action and return its exit code."""
        for step in STEPS:
            if "run" in step and step["name"] not in without and self._holds(step.get("if", "true")):
                code = self.step(step)
                if code:
                    return code
        return 0

    def step(self, step: dict[str, Any]) -> int:
        output = self.folder / "output"
        output.write_text("")
        variables = {key: self._expanded(str(value)) for key, value in step.get("env", {}).items()}
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")},
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_REPOSITORY": "me/mine",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),
            **variables,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        # As GitHub runs a step with `shell: bash`.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        self.ran.append(step["name"])
        self.said += done.stdout + done.stderr
        if "id" in step:
            lines = re.sub(r"^(\w+)<<END\n(.*?)^END$", r"\1=lines", output.read_text(), flags=re.DOTALL | re.MULTILINE)
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in lines.splitlines())
        return done.returncode

    def _value(self, name: str) -> str:
        if name.startswith("inputs."):
            return self.inputs[name.removeprefix("inputs.")]
        if name.startswith("steps."):
            _, step, _, output = name.split(".", 3)
            return self.outputs.get(step, {}).get(output, "")
        known = {
            "github.action_path": str(ROOT),
            "github.token": "token",
            "github.event_name": self.event,
            "github.event.pull_request.number": "7",
            "github.event.repository.default_branch": "main",
            "runner.temp": str(self.folder / "temp"),
        }
        return known[name]

    def _expanded(self, text: str) -> str:
        return _EXPRESSION.sub(lambda match: self._value(match[1]), text)

    def _holds(self, condition: str) -> bool:
        """A condition of comparisons joined by ``&&``."""

        def side(word: str) -> str:
            return word.strip("'") if word.startswith("'") else self._value(word)

        parts = [part.strip() for part in str(condition).split("&&")]
        pairs = [re.fullmatch(r"(\S+) (==|!=) (\S+)", part) for part in parts if part != "true"]
        return all((side(pair[1]) == side(pair[3])) == (pair[2] == "==") for pair in pairs if pair)


def noted_runner(folder: Path, *, export: str = "exit 0", compare: str = "exit 0", **options: str) -> Runner:
    """A runner whose jisu notes its words and ends as told."""
    runner = Runner(folder, **options)
    report = 'mkdir -p "$OUT/report"; echo "the table" > "$OUT/report/report.md"'
    more = f'case "$1" in export) {export} ;; compare) {report}; {compare} ;; esac'
    runner.note("jisu", more, place=runner.environment / "bin")
    runner.program(runner.environment / "bin" / "python", f'exec {sys.executable} "$@"')
    runner.note("gh")
    return runner


def parser_of(module: object) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser


def test_every_precision_is_exported_and_compared_with_options_that_exist(tmp_path: Path) -> None:
    limits = "--max-slowdown 10% --max-kl 0.08"
    options = "--keep '*.down proj' --max-kl 0.2"
    runner = noted_runner(tmp_path, checkpoint="my model", limits=limits, **{"export-options": options})
    assert runner.run() == 0
    *exports, compare = runner.calls("jisu")
    parsed = [parser_of(export_command).parse_args(call[2:]) for call in exports]
    assert [(item.checkpoint, str(item.out), item.precision, item.overwrite) for item in parsed] == [
        ("my model", "jisu-build/accepted/fp32", "fp32", True),
        ("my model", "jisu-build/accepted/int8", "int8", True),
    ]
    assert (parsed[0].keep, parsed[0].max_kl) == (["*.down proj"], 0.2)
    judged = parser_of(compare_command).parse_args(compare[2:])
    assert list(map(str, judged.artifacts)) == ["jisu-build/accepted/fp32", "jisu-build/accepted/int8"]
    assert (judged.max_slowdown, judged.max_kl, judged.baseline) == (0.1, 0.08, None)
    assert (judged.relative_to, judged.backends, judged.source) == ("source (torch)", ["ort-cpu", "torch"], "my model")
    report = ACTION["outputs"]["report"]["value"].replace("${{ inputs.out }}", "jisu-build")
    assert f"{judged.out}/report.json" == report
    assert runner.outputs["judge"] == {"verdict": "passed"}
    assert runner.outputs["export"]["folders"] == "jisu-build/accepted/fp32 jisu-build/accepted/int8"


def test_one_rejection_does_not_keep_the_others_from_being_compared_and_ends_red(tmp_path: Path) -> None:
    rejecting = 'case "$*" in *int4*) exit 3 ;; *fp16*) exit 2 ;; *) exit 0 ;; esac'
    runner = noted_runner(tmp_path, export=rejecting, checkpoint="m", precisions="int4 fp16 int8")
    assert runner.run() == 1
    *_, compare = runner.calls("jisu")
    assert compare[:3] == ["jisu", "compare", "jisu-build/accepted/int8"]
    assert (runner.outputs["export"]["rejected"], runner.outputs["export"]["failed"]) == ("int4", "fp16")
    assert runner.outputs["judge"]["verdict"] == "failed"
    assert "::error title=jisu::int4 was rejected" in runner.said
    summary = (tmp_path / "summary").read_text()
    assert "int4 was rejected by the gate" in summary
    assert "fp16 could not be exported" in summary
    assert "the table" in summary
    assert "Comment the table" in runner.ran


@pytest.mark.parametrize(("code", "verdict"), [(0, "passed"), (4, "regressed"), (2, "failed"), (1, "failed")])
def test_the_verdict_is_the_comparisons(tmp_path: Path, code: int, verdict: str) -> None:
    runner = noted_runner(tmp_path, compare=f"exit {code}", checkpoint="m")
    assert runner.run() == (1 if code else 0)
    assert runner.outputs["judge"]["verdict"] == verdict
    assert (tmp_path / "summary").read_text().startswith(f"**jisu: {verdict}**")


def test_nothing_accepted_is_nothing_compared_and_no_table_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "jisu-build" / "report").mkdir(parents=True)
    (tmp_path / "jisu-build" / "report" / "report.md").write_text("of yesterday")
    runner = noted_runner(tmp_path, export="exit 3", checkpoint="m")
    assert runner.run() == 1
    assert runner.outputs["judge"]["verdict"] == "rejected"
    assert "of yesterday" not in (tmp_path / "summary").read_text()
    assert "Nothing was measured" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("required", ["false", "true"])
def test_a_missing_baseline_is_a_warning_or_an_error_that_everybody_sees(tmp_path: Path, required: str) -> None:
    runner = noted_runner(tmp_path, checkpoint="m", **{"require-baseline": required})
    assert runner.run() == (1 if required == "true" else 0)
    kind = "error" if required == "true" else "warning"
    assert f"::{kind} title=jisu::" in runner.said
    assert "no run of the branch main has published jisu-baseline-" in (tmp_path / "summary").read_text()
    assert runner.outputs["baseline"].get("file", "") == ""


def test_a_file_that_is_named_is_the_baseline_and_warned_of_when_it_is_missing(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, checkpoint="m", baseline="base.json")
    assert runner.run() == 0
    assert "the file base.json is not there" in (tmp_path / "summary").read_text()
    (tmp_path / "base.json").touch()
    assert runner.run() == 0
    assert str(parser_of(compare_command).parse_args(runner.calls("jisu")[-1][2:]).baseline) == "base.json"


def test_the_published_baseline_is_the_newest_of_the_branch_for_this_kind_of_cpu(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, checkpoint="m")
    with zipfile.ZipFile(tmp_path / "base.zip", "w") as archive:
        archive.writestr("report.json", "{}")
    lists = 'printf "2026-11-02T00:00:00Z 22\\n2026-11-01T00:00:00Z 11\\n"'
    runner.note("gh", f'case "$*" in *22/zip*) cat {tmp_path / "base.zip"} ;; *name=*) {lists} ;; esac')
    assert runner.run() == 0
    listed, fetched, *_ = runner.calls("gh")
    name = runner.outputs["baseline"]["name"]
    assert re.fullmatch(r"jisu-baseline-[a-z0-9_-]+", name)
    assert f"actions/artifacts?name={name}&" in listed[3]
    assert "head_repository_id == .workflow_run.repository_id" in listed[-1]
    assert fetched[-1] == "repos/me/mine/actions/artifacts/22/zip"
    assert (tmp_path / runner.outputs["baseline"]["file"]).read_text() == "{}"
    assert "::warning" not in runner.said


def test_a_run_that_publishes_asks_for_no_baseline(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, event="push", checkpoint="m", **{"publish-baseline": "true"})
    assert runner.run() == 0
    assert runner.calls("gh") == []
    assert "::warning" not in runner.said
    [publish] = [step for step in STEPS if step.get("name") == "Publish the baseline"]
    assert publish["with"]["path"].endswith("/report/report.json")
    assert runner._holds(publish["if"])
    runner.outputs["judge"]["verdict"] = "regressed"
    assert not runner._holds(publish["if"])


def test_restored_artifacts_are_not_exported_again_unless_they_are_damaged(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, checkpoint="m", precisions="fp32 int8")
    runner.restore("artifacts")
    broken = 'case "$*" in *inspect*int8*) exit 2 ;; esac'
    runner.note("jisu", broken, place=runner.environment / "bin")
    runner.run()
    assert [call[1] for call in runner.calls("jisu")] == ["inspect", "inspect", "export", "compare"]
    assert "int8" in runner.calls("jisu")[2]


def keys(checkpoint: str, *, precisions: str = "fp32", options: str = "", **variables: str) -> dict[str, str]:
    words = [sys.executable, str(ROOT / ".ci" / "cache_keys.py"), str(ROOT), checkpoint, precisions, options]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **variables})
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_keys_follow_the_checkpoints_bytes_the_options_and_the_code(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    first = keys(str(folder))
    assert keys(str(shutil.copytree(folder, tmp_path / "copy"))) | first == first | {
        "checkpoint-key": first["checkpoint-key"]
    }
    assert keys(str(folder), precisions="int8")["artifacts-key"] != first["artifacts-key"]
    assert keys(str(folder), options="--symmetric")["artifacts-key"] != first["artifacts-key"]
    (folder / "model.safetensors").write_bytes(b"Weights")
    second = keys(str(folder))
    assert second["artifacts-key"] != first["artifacts-key"]
    assert second["environment-key"] == first["environment-key"]
    assert first["downloads"] == "false"
    names = [keys("org/name", GITHUB_RUN_ID=run) for run in ("1", "2")]
    assert names[0]["downloads"] == "true"
    assert names[0]["artifacts-key"] != names[1]["artifacts-key"]
    assert keys("package.module:build")["downloads"] == "false"


def test_every_input_and_output_that_is_used_is_declared_and_the_other_way_round() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    written = set(re.findall(r"echo \"([\w-]+)(?:=|<<)", text)) | {"python-path", "cache-hit"}
    written |= {"environment-key", "checkpoint-key", "artifacts-key", "downloads"}
    assert set(re.findall(r"steps\.\w+\.outputs\.([\w-]+)", text)) <= written
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert [name for name in (*ACTION["inputs"], *ACTION["outputs"]) if f"`{name}`" not in page] == []


def test_actions_of_others_are_pinned_by_commit() -> None:
    texts = [(ROOT / "action.yml").read_text(encoding="utf-8"), (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")]
    used = [line for text in texts for line in re.findall(r"uses: (.*)", text) if "OWNER" not in line]
    assert len(used) >= 10
    assert [line for line in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_the_package_is_installed_with_its_pins_into_an_environment_of_its_own(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, checkpoint="m")
    runner.note("python")
    runner.outputs["python"] = {"python-path": "python"}
    runner.note("python", place=runner.environment / "bin")
    runner.outputs["keys"] = {"environment": str(runner.environment)}
    [step] = [step for step in STEPS if step.get("name") == "Install jisu"]
    assert runner.step(step) == 0
    made, installed = runner.calls("python")
    assert made[1:3] == ["-m", "venv"]
    assert installed[1:4] == ["-m", "pip", "install"]
    assert (ROOT / "constraints.txt").samefile(installed[installed.index("-c") + 1])
    assert installed[-1] == f"{ROOT}[cpu,export,report]"


@pytest.mark.parametrize(("earlier", "method"), [("", "POST issues/7"), ("31", "PATCH issues/comments/31")])
def test_the_table_is_one_comment_that_the_next_run_replaces(tmp_path: Path, earlier: str, method: str) -> None:
    runner = noted_runner(tmp_path, checkpoint="m", baseline="none.json")
    runner.note("gh", f"echo {earlier}")
    assert runner.run() == 0
    look, write = runner.calls("gh")
    assert look[:4] == ["gh", "api", "--paginate", "repos/me/mine/issues/7/comments"]
    assert all(part in " ".join(write) for part in method.split())
    text = Path(write[-1].removeprefix("body=@")).read_text()
    assert text.startswith("<!-- jisu compare: jisu-report -->\n\n**jisu: passed**")
    assert text.endswith("the table\n")


def test_a_comment_that_may_not_be_written_is_a_warning_only(tmp_path: Path) -> None:
    runner = noted_runner(tmp_path, checkpoint="m")
    runner.note("gh", "exit 1")
    assert runner.run() == 0
    assert "which needs the permission pull-requests: write" in runner.said
    assert "which needs gh and the permission actions: read" in runner.said


def test_a_planted_slowdown_ends_red_and_an_equal_run_green_with_real_commands(
    tmp_path: Path, tiny_source: Path, tiny_artifact: Any
) -> None:
    """The steps with the real jisu on a tiny model, whose artifact a cache has restored."""
    options = {
        "checkpoint": str(tiny_source),
        "precisions": "fp32",
        "backends": "ort-cpu torch",
        "compare-options": "--workloads short-chat --trials 3 --threads 1 --no-quality --quiet",
        # What a busy machine does to a model of microseconds is no slowdown.
        "limits": "--max-slowdown 95%",
    }

    def run(**more: str) -> Runner:
        runner = Runner(tmp_path, **options, **more)
        runner.restore("artifacts")
        for name, call in (("jisu", f"{sys.executable} -m jisu"), ("python", sys.executable)):
            runner.program(runner.environment / "bin" / name, f'exec {call} "$@"')
        runner.note("gh")
        shutil.copytree(tiny_artifact.folder, tmp_path / "jisu-build" / "accepted" / "fp32", dirs_exist_ok=True)
        runner.code = runner.run()  # type: ignore[attr-defined]
        return runner

    base = run(**{"publish-baseline": "true"})
    assert base.code == 0, base.said  # type: ignore[attr-defined]
    report = json.loads((tmp_path / "jisu-build" / "report" / "report.json").read_text())
    (tmp_path / "base.json").write_text(json.dumps(report))
    equal = run(baseline="base.json")
    assert (equal.code, equal.outputs["judge"]["verdict"]) == (0, "passed"), equal.said  # type: ignore[attr-defined]
    for figures in (*report["rows"][0]["relative"].values(), *report["rows"][0]["measured"].values()):
        figure = figures["decode_tokens_per_s"]
        figure |= {key: 1000 * figure[key] for key in ("median", "low", "high")}
    (tmp_path / "base.json").write_text(json.dumps(report))
    slower = run(baseline="base.json")
    assert (slower.code, slower.outputs["judge"]["verdict"]) == (1, "regressed")  # type: ignore[attr-defined]
    assert "::error title=jisu compare::fp32 (ort-cpu), decode on short-chat relative to source (torch)" in slower.said
    assert "**regressed**" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("kind", ["github-actions", "github-workflows", "gitlab-ci"])
def test_the_action_and_the_documented_jobs_are_of_their_schema(tmp_path: Path, kind: str) -> None:
    """The schemas are those that the checking package carries."""
    *github, gitlab = documented_jobs()
    texts = {"github-actions": [(ROOT / "action.yml").read_text(encoding="utf-8")], "gitlab-ci": [gitlab]}
    paths = []
    for number, text in enumerate(texts.get(kind, github)):
        paths.append(tmp_path / f"checked-{number}.yml")
        paths[-1].write_text(text, encoding="utf-8")
    words = [
        "--builtin-schema",
        f"vendor.{kind}",
        *(["--data-transform", kind] if kind == "gitlab-ci" else []),
        *map(str, paths),
    ]
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def documented_jobs() -> list[str]:
    """The YAML of the examples: GitHub's baseline and pull request, GitLab's."""
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_github_pair_belongs_together() -> None:
    baseline, pull = (yaml.safe_load(text) for text in documented_jobs()[:2])
    options = []
    for workflow in (baseline, pull):
        [job] = workflow["jobs"].values()
        [step] = [step for step in job["steps"] if "jisu" in step["uses"]]
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert workflow["permissions"]["actions"] == "read"
        options.append(step["with"])
    assert options[0]["publish-baseline"] == "true"
    assert "publish-baseline" not in options[1]
    # What was measured in another way is not the baseline's.
    assert all(options[0][name] == options[1][name] for name in ("checkpoint", "precisions", "compare-options"))
    assert parser_of(compare_command).parse_args(shlex.split(options[1]["limits"])).max_slowdown == 0.1


@pytest.mark.parametrize("there", [True, False])
def test_the_documented_gitlab_pair_belongs_together(tmp_path: Path, there: bool) -> None:
    jobs = yaml.safe_load(documented_jobs()[2])
    runner = Runner(tmp_path, checkpoint="m")
    for name in ("jisu", "pip"):
        runner.note(name)
    runner.note("curl", "" if there else "exit 22")
    variables = {"CI_MERGE_REQUEST_IID": "3", "CI_API_V4_URL": "https://lab", "CI_PROJECT_ID": "5", "JISU_TOKEN": "t"}
    variables |= {"CI_DEFAULT_BRANCH": "main"}
    made = runner.step({"name": "main", "run": _script(jobs[".jisu"], jobs["model-baseline"]), "env": variables})
    code = runner.step({"name": "merge", "run": _script(jobs[".jisu"], jobs["compare-model"]), "env": variables})
    assert (made, code) == (0, 0 if there else 42)
    assert jobs["compare-model"]["allow_failure"]["exit_codes"] == [42]
    export, first, _, second = runner.calls("jisu")
    files = jobs[".jisu"]["artifacts"]["reports"]["junit"]
    assert str(parser_of(export_command).parse_args(export[2:]).report) in files
    base, parsed = (parser_of(compare_command).parse_args(call[2:]) for call in (first, second))
    assert (base.relative_to, base.backends, base.trials) == (parsed.relative_to, parsed.backends, parsed.trials)
    assert parsed.baseline == (Path("baseline.json") if there else None)
    assert f"{parsed.out}/junit.xml" in files
    assert jobs[".jisu"]["artifacts"]["paths"] == [str(parsed.out)]
    [fetched] = runner.calls("curl")
    assert fetched[-1].endswith("/jobs/artifacts/main/raw/build/report/report.json?job=model-baseline")
    assert ("WARNING: speed and size are NOT compared" in runner.said) is not there
    (tmp_path / "build" / "report").mkdir(parents=True)
    (tmp_path / "build" / "report" / "report.md").touch()
    after = {"name": "after", "run": "\n".join(jobs["compare-model"]["after_script"]), "env": variables}
    runner.note("curl")
    assert runner.step(after) == 0
    assert runner.calls("curl")[-1][-1] == "https://lab/projects/5/merge_requests/3/notes"


def _script(shared: dict[str, Any], job: dict[str, Any]) -> str:
    """As GitLab runs it: each line ends the job when it fails."""
    return "\n".join([*shared["before_script"], *job["script"]])
