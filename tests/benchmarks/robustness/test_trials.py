"""A short seeded run on a whole artifact, in a process of its own: forks of one with open sessions may wait."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.robustness.attempt import Outcome
from benchmarks.robustness.trials import FAULTS, Tally, _judged, files_of

ROOT = Path(__file__).parents[3]


def test_damaged_artifacts_are_refused_or_answer_as_before(tiny, tmp_path):
    command = [sys.executable, "-m", "benchmarks.robustness", "--artifact", str(tiny.fp32)]
    command += ["--mutants", "14", "--seed", "1", "--seconds", "120", "--out", str(tmp_path / "counts.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    found = json.loads((tmp_path / "counts.json").read_text())
    endings = {ending for ends in found["counts"].values() for ending in ends}
    assert sum(count for ends in found["counts"].values() for count in ends.values()) == 14
    assert endings - {"refused", "same answer"} == set(), done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("outcome", "judged"),
    [
        (Outcome(ending="done", result=[[1, "a"]]), "same answer"),
        (Outcome(ending="done", result=[[2, "a"]]), "other answer"),
        (Outcome(ending="refused", detail="damaged"), "refused"),
    ],
)
def test_another_answer_is_told_from_the_same(outcome, judged):
    assert _judged(outcome, Outcome(ending="done", result=[[1, "a"]])) == judged


def test_faults_are_counted_with_examples():
    tally = Tally()
    for ending in ("refused", "refused", *FAULTS, *FAULTS):
        tally.add("file", ending, "how")
    assert tally.faults == 2 * len(FAULTS)
    assert tally.counts["file"]["refused"] == 2
    assert set(tally.examples) == {f"file: {ending}" for ending in FAULTS}


def test_nothing_to_damage_is_a_usage_error():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.robustness"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nothing to damage" in done.stderr


def test_empty_files_and_timings_are_not_damaged(tmp_path):
    for name, text in {"config.json": "{}", "empty": "", "timings.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    assert files_of(tmp_path) == ["config.json"]
