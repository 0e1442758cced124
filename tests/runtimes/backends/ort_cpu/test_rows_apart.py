from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.artifact import Artifact, read_artifact
from jisu.runtimes.backends.ort_cpu import rows_apart as room
from jisu.runtimes.backends.ort_cpu.one_pass import open_ort_one_pass
from jisu.runtimes.backends.ort_cpu.rows_apart import RowsApart, rows_apart

INTEGERS = {"formats": [{"format": {"bits": 8}}]}
INT8_INPUTS = {**INTEGERS, "products": {"kept": []}}


def quantized(artifact: Artifact, quantization: dict[str, Any]) -> Artifact:
    return replace(artifact, manifest=replace(artifact.manifest, quantization=quantization))


@pytest.fixture
def artifact(tiny_classifier: Any) -> Artifact:
    return read_artifact(tiny_classifier.folder)


def test_rows_have_the_same_numbers_apart(artifact: Artifact) -> None:
    together = open_ort_one_pass(artifact, threads=2, source=None)
    apart = open_ort_one_pass(quantized(artifact, INT8_INPUTS), threads=2, source=None)
    rows = [[3, 7, 1, 4], [5], [2, 2, 9], [8, 1], [6, 4, 4, 4]]
    for count in (1, 2, 3, 5):
        # Products of other numbers of rows may be added in another order.
        np.testing.assert_allclose(apart.outputs(rows[:count]), together.outputs(rows[:count]), atol=1e-6)
    apart.close()
    apart.close()


def test_each_part_is_a_call_of_its_own(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    run_rows = room.run_rows

    def counted(session: Any, output: str, feeds: Any) -> Any:
        calls.append(len(feeds["input_ids"]))
        return run_rows(session, output, feeds)

    monkeypatch.setattr(room, "run_rows", counted)
    backend = open_ort_one_pass(quantized(artifact, INT8_INPUTS), threads=2, source=None)
    backend.outputs([[1, 2]] * 5)
    assert sorted(calls) == [2, 3]
    backend.outputs([[1, 2]])
    assert sorted(calls) == [1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "tokens", "parts"),
    [(2, 16, 2), (32, 32, 2), (1, room._ALONE, 1), (1, room._ALONE + 1, 0)],
)
def test_a_call_is_cut_into_as_many_parts_as_threads(artifact: Artifact, rows: int, tokens: int, parts: int) -> None:
    assert RowsApart(artifact, threads=2, alone=room._ALONE).parts(rows, tokens) == parts


def test_fewer_rows_than_threads_share_them(artifact: Artifact) -> None:
    assert RowsApart(artifact, threads=4, alone=0).parts(3, 16) == 0


def test_only_small_graphs_of_integers_are_opened_twice(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_apart(artifact, 2) is None
    assert rows_apart(quantized(artifact, {"format": "float16"}), 2) is None
    integers = quantized(artifact, INTEGERS)
    assert rows_apart(integers, 1) is None
    weight_only = rows_apart(integers, 2)
    assert weight_only is not None
    assert weight_only.parts(1, 1) == 0  # its matmuls are faster on all threads
    monkeypatch.setattr(room, "_LARGEST", 1000)
    assert rows_apart(integers, 2) is None


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    """The artifact with a manifest that says that its graph is of integers."""
    shutil.copytree(artifact.folder, tmp_path / "artifact")
    path = tmp_path / "artifact" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "quantization": INT8_INPUTS}), encoding="utf-8")
    return path.parent


def run_code(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_a_thread_may_use_it_while_the_interpreter_ends(folder: Path) -> None:
    code = """
    import sys, threading, time
    from jisu.runtimes.opening import load
    engine = load(sys.argv[1], threads=2)
    rows = [[1, 2, 3], [4, 4, 4], [2, 2, 1]]  # of one length, so that they are one call
    wanted = [one.label for one in engine.classify_ids(rows)]
    def classify():
        threading.main_thread().join()
        time.sleep(0.2)
        assert [one.label for one in engine.classify_ids(rows)] == wanted
        print("classified")
    threading.Thread(target=classify).start()
    """
    assert run_code(code, folder) == "classified\n"


def test_a_child_may_use_and_close_it(folder: Path) -> None:
    code = """
    import os, sys
    from jisu.runtimes.opening import load
    engine = load(sys.argv[1], threads=2)
    def answer():
        return [one.score for one in engine.classify_ids([[1, 2, 3], [4, 4, 4], [2, 2, 1]])]
    wanted = answer()
    number = os.fork()
    if number == 0:
        assert answer() == wanted
        engine.close()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 7
    assert answer() == wanted
    """
    run_code(code, folder)
