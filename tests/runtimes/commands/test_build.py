from __future__ import annotations

import argparse
import json

import pytest

import jisu
from jisu.runtimes.backends.tensorrt.build import BuiltPlan
from jisu.runtimes.commands.build import capability
from tests.runtimes.tiny_models import write_artifact


def test_a_capability_is_two_numbers():
    assert (capability("8.9"), capability("12.0")) == ((8, 9), (12, 0))
    for wrong in ("89", "sm89", "8.9.1", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="write it as 8.9"):
            capability(wrong)


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Stands in for TensorRT: each target has two plans, of which the second was there already."""
    room = "jisu.runtimes.backends.tensorrt"
    monkeypatch.setattr(f"{room}.library.import_library", lambda backend: backend)
    monkeypatch.setattr(f"{room}.library.check_capabilities", lambda library, capabilities: None)
    monkeypatch.setattr(
        f"{room}.plan_targets.plan_targets", lambda library, several: [("sm89", one) for one in several]
    )

    def build_plans(artifact, library, folder, *, target, capability, shapes, progress, say):
        say("building")
        first = BuiltPlan(
            path=folder / "a.plan.gz", target=target, size=5, seconds=1.5, reason="there is none yet", notes=("slow",)
        )
        return first, BuiltPlan(path=folder / "b.plan.gz", target=target, size=7, seconds=0.0, reason=None)

    monkeypatch.setattr(f"{room}.build.build_plans", build_plans)
    write_artifact(tmp_path / "artifact", "tensorrt")
    return ["build", str(tmp_path / "artifact"), "--backend", "tensorrt-rtx", "--compute-capability", "8.9"]


def test_one_object_has_every_plan_and_all_else_goes_to_standard_error(built, tmp_path, capsys):
    out = tmp_path / "plans"
    assert jisu.main([*built, "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record == {
        "artifact": str(tmp_path / "artifact"),
        "plans": [
            {
                "path": str(out / "a.plan.gz"),
                "target": "sm89",
                "size": 5,
                "seconds": 1.5,
                "reason": "there is none yet",
                "notes": ["slow"],
            },
            {"path": str(out / "b.plan.gz"), "target": "sm89", "size": 7, "seconds": 0.0, "reason": None, "notes": []},
        ],
    }
    assert "building" in captured.err and "a.plan.gz: slow" in captured.err
    assert jisu.main([*built, "--out", str(out), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == (record, "")


def test_without_json_a_line_tells_of_each_plan(built, tmp_path, capsys):
    assert jisu.main([*built, "--out", str(tmp_path / "plans")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["0.0 MB, built in 1.5 s", "0.0 MB, already there"]


def test_bad_input_prints_no_object(built, tmp_path, capsys):
    assert jisu.main(["build", str(tmp_path), *built[2:], "--json"]) == 2
    assert capsys.readouterr().out == ""
