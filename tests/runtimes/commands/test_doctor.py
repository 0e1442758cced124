"""`jisu doctor` prints its diagnosis as text or JSON and exits with its code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import jisu
from jisu.runtimes.commands import doctor
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from jisu.runtimes.machine.probe import Machine, OrtProbe

MACHINE = Machine(
    python="3.11.7",
    system="Linux x86_64",
    cpu=None,
    cpu_features=None,
    cores=4,
    cpu_limit=1.5,
    memory=None,
    memory_free=None,
    memory_limit=2 << 30,
    disk_folder="/somewhere",
    disk_free=3 << 30,
    packages={"onnxruntime": "1.32.0"},
    ort=OrtProbe(providers=("CPUExecutionProvider",)),
    gpu=GpuProbe(devices=(Gpu(name="Test GPU", memory=24 << 30, compute_capability=(8, 9)),), driver_cuda=(13, 0)),
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe_machine", lambda folder: MACHINE)


@pytest.mark.usefixtures("machine")
def test_text_says_unknown_for_what_the_machine_does_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "features      unknown" in shown
    assert "cores         4, limited to 1.5 cores' time" in shown
    assert "memory        unknown, free unknown, limited to 2.0 GiB" in shown
    assert "Test GPU, 24.0 GiB, compute capability 8.9" in shown
    assert "ort-cpu       ready" in shown
    assert "tensorrt      no: tensorrt is not installed" in shown
    assert (
        "torch         no: torch and transformers are not installed\n                pip install 'jisu[export]'"
        in shown
    )


@pytest.mark.parametrize(
    ("overflow", "words"),
    [
        (None, "unknown"),
        (False, "runs every artifact correctly"),
        (True, "refuses artifacts exported with --assume-vnni"),
    ],
)
def test_text_says_how_int8_products_are_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overflow: bool | None, words: str
) -> None:
    ort = replace(MACHINE.ort, int8_overflow=overflow)
    monkeypatch.setattr(doctor, "probe_machine", lambda folder: replace(MACHINE, ort=ort))
    assert jisu.main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "int8 matmul" in line]
    assert words in line


@pytest.mark.usefixtures("machine")
def test_model_that_does_not_fit_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["doctor", "--model", "7B"]) == 2
    assert "DOES NOT FIT: disk to export it to /somewhere: needs 26.1 GiB, free 3.0 GiB" in capsys.readouterr().out


@pytest.mark.usefixtures("machine")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"]["cores"] == 4


def test_clash_is_2_and_shows_the_lines_that_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(doctor, "probe_machine", lambda folder: replace(MACHINE, packages=both))
    assert jisu.main(["doctor"]) == 2
    assert "Clash: onnxruntime and onnxruntime-gpu" in capsys.readouterr().out


def test_unreadable_model_is_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["doctor", "--model", str(tmp_path)]) == 2
    assert "holds no weights" in capsys.readouterr().err


def test_this_machine_can_be_diagnosed(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["doctor", "--json"]) in (0, 2)
    data = json.loads(capsys.readouterr().out)
    assert data["machine"]["cores"] >= 1
    assert data["backends"][0]["name"] == "ort-cpu"
