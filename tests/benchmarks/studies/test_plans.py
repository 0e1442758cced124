from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from jisu.benchmarks.studies import plans
from jisu.benchmarks.studies.plans import Row, table
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.packed_plan import pack_plan
from tests.runtimes.tiny_models import write_artifact

LIBRARY = Library(
    name="tensorrt-rtx",
    module=SimpleNamespace(ComputeCapability=SimpleNamespace(__members__={"SM75": 1, "SM89": 2}), __version__="1"),
)


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """An artifact, and a library that builds for 8.9 alone."""

    def build(artifact, library, folder, *, target, capability, shapes):
        if capability == (7, 5):
            raise InputError("no such types")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{library.name}-{target}.plan.gz"
        assert not path.exists(), "a plan that is there would cost nothing"
        path.write_bytes(pack_plan(bytes(5_000_000)))
        return SimpleNamespace(path=path, size=path.stat().st_size, seconds=1.26, notes=("a note",))

    monkeypatch.setattr(plans, "import_library", lambda name: LIBRARY)
    monkeypatch.setattr(plans, "build_plan", build)
    return write_artifact(tmp_path / "a", "tensorrt")


def test_every_precision_and_gpu_is_a_row_and_a_refusal_one_too(artifact, tmp_path, capsys):
    words = [str(artifact.folder), "--plans", str(tmp_path / "p"), "--out", str(tmp_path / "plans.json")]
    words += ["--compute-capability", "7.5", "8.9"]
    for _ in range(2):
        assert plans.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert "| 7.5 |" in lines[-2]
    assert "refused" in lines[-2]
    assert "| 1.3 |" in lines[-1]
    refused, built = json.loads((tmp_path / "plans.json").read_text())["rows"]
    assert refused["plan"] is None
    assert "no such types" in refused["notes"]
    assert (built["unpacked"], built["notes"]) == (5_000_000, "a note")
    assert built["plan"] < 100_000


def test_a_gpu_that_there_are_no_plans_for_is_one_sentence(artifact, tmp_path, capsys):
    assert plans.main([str(artifact.folder), "--plans", str(tmp_path), "--compute-capability", "9.0"]) == 2
    assert "no plans for compute capability 9.0" in capsys.readouterr().err


def test_sizes_are_told_beside_those_of_the_weights():
    row = Row(
        precision="int8", target="8.9", kl=0.003, top1=0.97, weights=200_000_000, plan=202_000_000,
        unpacked=240_000_000, seconds=12.3, cpu_seconds=15.0,
    )  # fmt: skip
    assert table([row]).splitlines()[-1] == (
        "| int8 | 8.9 | 0.003 | 0.970 | 200.0 | 202.0 | 1.010 | 1.200 | 12.3 | 15.0 |"
    )
