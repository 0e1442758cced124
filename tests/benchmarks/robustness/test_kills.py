from __future__ import annotations

import subprocess
import sys
import time

import pytest

from jisu.benchmarks.robustness import kills
from jisu.benchmarks.robustness.kills import Kills
from jisu.benchmarks.robustness.tally import Tally
from jisu.exporter.contract.errors import InputError


def write_whole(out):
    time.sleep(0.3)
    partial = out.with_suffix(".partial")
    partial.write_text("whole")
    time.sleep(0.05)
    partial.rename(out)


def write_in_place(out):
    with out.open("w") as stream:
        for letter in "whole":
            stream.write(letter)
            stream.flush()
            time.sleep(0.1)


def leave_a_child(out):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    write_whole(out)


def digest(out):
    if out.read_text() != "whole":
        raise InputError("Half.")
    return "whole"


def attempts(job, tmp_path, number):
    trial = Kills(name="job", job=job, digest=digest, place=tmp_path / "place", seconds=30)
    tally = Tally()
    for index in range(number):
        trial.run(index, tally)
    return tally.counts["job"]


def test_what_is_whole_or_not_there_is_no_fault(tmp_path):
    actual = attempts(write_whole, tmp_path, 5)
    assert actual["finished"] == 1
    assert sum(actual.values()) == 5
    assert set(actual) <= {"finished", "killed", "killed when done", "done", "refused"}


def test_half_a_result_is_found(tmp_path):
    assert attempts(write_in_place, tmp_path, 4)["half artifact"]


def test_a_child_that_outlives_its_parent_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "_PATIENCE", 0.2)
    assert attempts(leave_a_child, tmp_path, 1)["still running"] == 1


def test_a_run_that_cannot_finish_what_was_begun_is_found(tmp_path):
    def refuse(out):
        if (out.parent / "begun").exists():
            raise InputError("It is begun.")
        (out.parent / "begun").touch()
        write_whole(out)

    assert attempts(refuse, tmp_path, 5)["not resumed"] == 1


def test_a_job_that_cannot_be_done_is_no_trial(tmp_path):
    with pytest.raises(InputError, match="cannot be done to begin with"):
        attempts(lambda out: 1 / 0, tmp_path, 1)
