from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jisu.benchmarks.compare import peer_contestants as module
from jisu.benchmarks.compare.peer_contestants import PEERS, peer_contestants
from jisu.exporter.contract.errors import InputError


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    (folder / "openvino-int8" / "cache").mkdir(parents=True)
    (folder / "openvino-int8" / "weights").write_bytes(b"1234")
    (folder / "openvino-int8" / "cache" / "made").write_bytes(b"123456789")
    (folder / "q8_0.gguf").write_bytes(b"12345")
    (folder / "transformers").mkdir()
    return folder


@pytest.fixture
def other_python(tmp_path):
    """An interpreter whose environment has one of the other engines."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\necho '{json.dumps(['llama_cpp'])}'\n")
    path.chmod(0o755)
    return path


def test_what_is_installed_and_has_its_model_is_a_contestant(models, other_python):
    actual, _ = peer_contestants(models, other_python, threads=3)
    assert [(item.name, item.command[0], item.command[3:], item.facts["size_bytes"]) for item in actual] == [
        ("PyTorch eager", sys.executable, (str(models / "transformers"), "3", "eager"), 0),
        ("torch.compile", sys.executable, (str(models / "transformers"), "3", "compile"), 0),
        ("llama.cpp Q8_0", str(other_python), (str(models / "q8_0.gguf"), "3"), 5),
    ]


def test_each_other_one_is_a_line_that_says_how_to_get_it(models, other_python):
    actual, missing = peer_contestants(models, other_python, threads=1)
    assert {item.name for item in actual} | set(missing) == set(PEERS)
    assert missing["OpenVINO int8"].startswith("openvino_genai is not installed; install it with: python -m venv")
    assert "f16.gguf is missing; make it with: python -m benchmarks.peers.prepare" in missing["llama.cpp F16"]
    _, nothing = peer_contestants(models, Path("/nowhere/python"), threads=1)
    assert nothing["llama.cpp Q8_0"].startswith("there is no /nowhere/python; make it with: python -m venv")


def test_caches_of_an_engine_are_no_part_of_its_size(models, tmp_path):
    assert module._bytes_of(models / "openvino-int8") == 4


def test_a_worker_starts_in_an_environment_without_us_and_in_another_folder(models, other_python, tmp_path):
    actual, _ = peer_contestants(models, other_python, threads=1)
    command = [sys.executable, "-I", *actual[0].command[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "transformers" in json.loads(done.stdout)["failed"]  # it was started, and found no model in the empty folder


def test_no_folder_is_an_error_that_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="python -m benchmarks.peers.prepare"):
        peer_contestants(tmp_path / "nothing", Path("python"), threads=1)
