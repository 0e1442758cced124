"""Short seeded runs on a whole artifact, in processes of their own: forks of one with open sessions may wait."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def command(*words):
    return [sys.executable, "-m", "jisu.benchmarks.robustness", *map(str, words)]


def test_damaged_artifacts_are_refused_or_answer_as_before_and_a_run_goes_on(tiny, tmp_path):
    counts = tmp_path / "counts.json"
    words = command("--artifact", tiny.fp32, "--seed", 1, "--seconds", 120, "--out", counts)
    for mutants in (4, 14):
        done = subprocess.run(
            [*words, "--mutants", str(mutants)], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
        )
        actual = json.loads(counts.read_text())
        assert done.returncode == 0, done.stderr
        assert actual["attempts"] == mutants
        assert f"{mutants} attempts, 0 faults" in done.stdout
    endings = {ending for ends in actual["counts"].values() for ending in ends}
    assert endings - {"refused", "same answer"} == set(), done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_says_what_it_has(tiny, tmp_path, number, code):
    counts = tmp_path / "counts.json"
    words = command("--artifact", tiny.fp32, "--mutants", 100000, "--out", counts)
    run = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not counts.exists() and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(number)
    said, errors = run.communicate(timeout=120)
    assert (run.returncode, errors) == (code, "")
    actual = json.loads(counts.read_text())
    assert actual["attempts"] > 0
    assert f"{actual['attempts']} attempts" in said


def test_nothing_to_damage_is_a_usage_error():
    done = subprocess.run(command(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing to damage" in done.stderr


def test_a_killed_export_of_a_checkpoint_goes_on(tiny, tmp_path):
    words = command("--checkpoint", tiny.source, "--mutants", 0, "--kills", 1, "--out", tmp_path / "counts.json")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"kill export of {Path(tiny.source).name}" in done.stdout
