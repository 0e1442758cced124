"""Probes read what Linux tells, and say unknown where nothing is told."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from jisu.runtimes.machine import probe as machine_module
from jisu.runtimes.machine.probe import (
    cpu_features,
    cpu_name,
    free_disk,
    installed_packages,
    probe_machine,
    probe_onnxruntime,
)

CPUINFO = """processor\t: 0
model name\t: Test CPU @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_vnni

processor\t: 1
flags\t\t: fpu
"""


def test_features_are_those_of_the_first_processor() -> None:
    features = cpu_features(CPUINFO)
    assert features is not None
    assert {name for name, there in features.items() if there} == {"avx2", "avx512", "avx512_vnni"}


def test_arm_spells_its_flags_otherwise() -> None:
    features = cpu_features("Features\t: fp asimd asimddp i8mm\n")
    assert features is not None
    assert {name for name, there in features.items() if there} == {"neon_dotprod", "neon_i8mm"}


@pytest.mark.parametrize("text", [None, "", "processor: 0\n"])
def test_features_are_unknown_without_flags(text: str | None) -> None:
    assert cpu_features(text) is None


def test_name_of_the_processor() -> None:
    assert cpu_name(CPUINFO) == "Test CPU @ 2 GHz"


def test_memory_limit_bounds_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "memory_sizes", lambda: (100, 90))
    monkeypatch.setattr(machine_module, "cgroup_memory", lambda: (50, 20))
    actual = probe_machine()
    assert (actual.memory, actual.memory_free, actual.memory_limit) == (100, 30, 50)


def test_disk_is_that_of_the_nearest_existing_parent(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "a" / "b") is not None


def test_half_removed_package_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str | None:
        if name == "torch":
            return None
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert installed_packages() == {"torch": "unknown"}


def test_onnxruntime_tells_its_providers() -> None:
    probe = probe_onnxruntime("print('noise'); print('providers:A,B')")
    assert probe.providers == ("A", "B")
    assert probe.problem is None
    assert probe.missing == ()


def test_onnxruntime_tells_which_libraries_of_cuda_are_not_here() -> None:
    assert probe_onnxruntime("print('providers:A'); print('missing:libcublas.so.13')").missing == ("libcublas.so.13",)
    assert probe_onnxruntime("print('providers:A'); print('missing:')").missing == ()


@pytest.mark.parametrize(("said", "overflow"), [("yes", True), ("no", False), ("", None)])
def test_onnxruntime_tells_how_it_adds_int8_products(said: str, overflow: bool | None) -> None:
    actual = probe_onnxruntime(f"print('providers:A'); print('int8_overflow:{said}')")
    assert actual.int8_overflow is overflow


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ImportError('libfoo.so: not found')", "importing it failed: ImportError: libfoo.so: not found"),
        ("import os; os.abort()", "ended the process with signal 6"),
        ("pass", "it said nothing"),
    ],
)
def test_broken_onnxruntime_is_a_reason_and_no_crash(code: str, problem: str) -> None:
    assert problem in (probe_onnxruntime(code).problem or "")


def test_onnxruntime_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "ORT_PROBE_SECONDS", 0.2)
    assert "could not be tried" in (probe_onnxruntime("import time; time.sleep(30)").problem or "")


def test_probing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jisu.runtimes.machine.probe import probe_machine; probe_machine()\n"
        "print({'torch', 'transformers', 'onnxruntime', 'onnx', 'tensorrt'} & set(sys.modules))"
    )
    root = Path(machine_module.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
