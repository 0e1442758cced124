"""Another implementation is asked, and where it diverges from the artifact, the command ends with 3."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.source_place import read_place
from jisu.exporter.opinions.asking import has_package
from jisu.exporter.second_opinion import SecondOpinion, ask_second_opinion, choose_witness
from jisu.exporter.sources import load_source
from jisu.exporter.sources.recorded_source import load_recorded_source
from tests.support.models import write_tiny_gguf

pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")
ROOT = Path(__file__).parent.parent.parent
STAND_IN = Path(__file__).parent / "opinions" / "stand_in"
# Where its documentation has it installed, beside this environment.
PLACES = (sys.executable, os.environ.get("LLAMA_CPP", ""), str(ROOT / "build" / "llama-cpp" / "bin" / "python"))
REAL = next((python for python in PLACES if python and has_package(python, "llama_cpp")), None)


@pytest.fixture(scope="module")
def gguf_artifact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from jisu.exporter.pipeline import export

    folder = tmp_path_factory.mktemp("opinion")
    return export(write_tiny_gguf(folder / "model.gguf", layers=1, max_position_embeddings=128), folder / "artifact")


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """An interpreter that has our stand-in for llama-cpp-python, with one of its faults."""

    def interpreter(fault: str = "") -> str:
        path = tmp_path / f"python-{fault}"
        path.write_text(
            f'#!/bin/sh\nPYTHONPATH="{STAND_IN}" STAND_IN_FAULT="{fault}" exec "{sys.executable}" "$@"\n',
            encoding="utf-8",
        )
        path.chmod(0o755)
        return str(path)

    return interpreter


def opinion(artifact: Any, python: str) -> SecondOpinion:
    return ask_second_opinion(artifact, load_recorded_source(artifact, None), python=python)


def failed(actual: SecondOpinion) -> list[str]:
    return [check.name.removeprefix("second-opinion-") for check in actual.checks if not check.passed]


def test_an_implementation_that_agrees_says_so_in_numbers(gguf_artifact: Any, stand_in: Callable[[str], str]) -> None:
    actual = opinion(gguf_artifact, stand_in(""))
    assert actual.agrees, actual.checks
    assert [check.name.removeprefix("second-opinion-") for check in actual.checks] == [
        "tokens", "logits", "kl", "top-1", "greedy",
    ]  # fmt: skip
    assert actual.implementation == "llama.cpp (llama-cpp-python 0.0.0 (stand-in))"
    assert 0 < next(check.value for check in actual.checks if check.name == "second-opinion-logits") < 2e-4
    record = json.loads(json.dumps(actual.to_dict()))
    assert {one["name"] for one in record["sequences"]} >= {"prose", "Chinese", "code", "chat", "random ids"}


@pytest.mark.parametrize(
    ("fault", "first", "words"),
    [
        ("rope", "logits", "It diverges first in random ids, at position "),
        ("split", "tokens", "where the other implementation has"),
        ("nan", "logits", "It diverges first in random ids, at position 0."),
    ],
)
def test_a_divergence_is_found_and_named(
    fault: str, first: str, words: str, gguf_artifact: Any, stand_in: Callable[[str], str]
) -> None:
    actual = opinion(gguf_artifact, stand_in(fault))
    assert not actual.agrees
    assert failed(actual)[0] == first
    assert words in next(check.detail for check in actual.checks if not check.passed)


def test_a_divergence_ends_the_command_with_3(
    gguf_artifact: Any, stand_in: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert jisu.main(["verify", str(gguf_artifact.folder), "--opinion-python", stand_in("rope")]) == 3
    out = capsys.readouterr().out
    assert "FAIL  second-opinion-logits" in out
    assert "second opinion: llama.cpp" in out
    assert "REJECTED" in out


def test_an_implementation_that_ends_by_itself_is_told(gguf_artifact: Any, stand_in: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match=r"llama\.cpp gives no second opinion.*ended by signal 6: .*GGML_ASSERT"):
        opinion(gguf_artifact, stand_in("abort"))


def test_what_it_says_about_a_file_is_passed_on(
    gguf_artifact: Any, stand_in: Callable[[str], str], tmp_path: Path
) -> None:
    source = load_recorded_source(gguf_artifact, None)
    other = write_tiny_gguf(tmp_path / "other.gguf", architecture="mistral", layers=1)
    source.provenance["name"] = str(other)
    with pytest.raises(InputError, match=r"unknown model architecture"):
        ask_second_opinion(gguf_artifact, source, python=stand_in(""))


def test_a_missing_llama_cpp_is_named_before_anything_runs(
    gguf_artifact: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "none")
    assert jisu.main(["verify", str(gguf_artifact.folder), "--second-opinion", "--opinion-python", missing]) == 2
    said = capsys.readouterr().err
    for part in ("needs llama.cpp", f"Received: no package llama_cpp in {missing}", "Allowed:", "pip install"):
        assert part in said


def test_another_file_in_the_place_of_the_recorded_one_is_refused(
    gguf_artifact: Any, stand_in: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    place = Path(str(read_place(gguf_artifact.folder).checkpoint))
    kept = shutil.copy(place, tmp_path / "kept.gguf")
    write_tiny_gguf(place, layers=1, max_position_embeddings=128, seed=5)
    try:
        assert jisu.main(["verify", str(gguf_artifact.folder), "--opinion-python", stand_in("")]) == 2
        assert "is not the checkpoint that" in capsys.readouterr().err
    finally:
        shutil.copy(kept, place)


def test_plain_transformers_agrees_about_a_folder(tiny_artifact: Any) -> None:
    actual = opinion(tiny_artifact, sys.executable)
    assert actual.agrees, actual.checks
    assert [check.name.removeprefix("second-opinion-") for check in actual.checks] == [
        "tokens", "chat-template", "logits", "kl", "top-1", "greedy",
    ]  # fmt: skip
    assert actual.implementation.startswith("transformers (transformers ")


def test_there_is_nobody_to_ask_about_a_module() -> None:
    with pytest.raises(InputError, match="No other implementation can give a second opinion"):
        choose_witness({"kind": "module"}, "text-generation")


@pytest.mark.llama_cpp
@pytest.mark.skipif(REAL is None, reason="llama-cpp-python is not installed, see docs/second-opinion.md")
@pytest.mark.parametrize("quantization", ["F32", "Q8_0"])
def test_the_real_llama_cpp_agrees_and_finds_another_rotary_base(quantization: str, tmp_path: Path) -> None:
    from jisu.exporter.pipeline import export

    assert REAL is not None
    artifact = export(write_tiny_gguf(tmp_path / "model.gguf", quantization=quantization), tmp_path / "artifact")
    actual = opinion(artifact, REAL)
    assert actual.agrees, actual.checks
    settings = {"llama.rope.freq_base": 40000.0}
    other = write_tiny_gguf(tmp_path / "other.gguf", quantization=quantization, settings=settings)
    actual = ask_second_opinion(artifact, load_source(other), python=REAL)
    assert not actual.agrees
