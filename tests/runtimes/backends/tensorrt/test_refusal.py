from __future__ import annotations

import importlib.util
import subprocess
from types import SimpleNamespace

import pytest

import jisu
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.backends.tensorrt import refusal
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from jisu.runtimes.backends.tensorrt.refusal import Refusal, find_refusal

SHAPES = Shapes(capacity=64, prompt=16)
TABLE = """[I] ===== Summary =====
    Stack trace  | Operator  | Node  | Reason
    -----------------------------------------
                 | Unique    | n_7   | no such operator
[I] Saving results
"""


def test_an_int4_weight_is_what_an_old_gpu_refuses(rtx, trt_int4, tmp_path, capsys):
    words = ["diagnose", str(trt_int4.folder), "--backend", "tensorrt-rtx", "--out", str(tmp_path / "small")]
    assert jisu.main([*words, "--compute-capability", "7.5"]) == 3
    said = capsys.readouterr().out
    assert "int4" in said
    assert "DequantizeLinear model.layers." in said
    path = tmp_path / "small" / "model.onnx"
    assert f"The smallest refused subgraph: {path}" in said
    assert path.stat().st_size < trt_int4.graph.stat().st_size


def test_a_graph_that_is_taken_is_no_refusal(rtx, trt_int4, tmp_path, monkeypatch, capsys):
    done = SimpleNamespace(returncode=0, stdout="Graph is fully supported by TensorRT", stderr="")
    out = tmp_path / "x.onnx"
    actual = find_refusal(trt_int4, rtx, capability=(8, 9), shapes=SHAPES, out=out, run=lambda *_, **__: done)
    assert actual == Refusal()
    assert not out.exists()
    monkeypatch.setattr(refusal, "find_refusal", lambda *_, **__: actual)
    words = ["diagnose", str(trt_int4.folder), "--backend", "tensorrt-rtx", "--compute-capability", "8.9"]
    assert jisu.main(words) == 0
    assert "tensorrt-rtx accepts the graph and builds it" in capsys.readouterr().out


def test_what_the_parser_does_not_take_is_told_as_it_says_it(rtx, trt_llama, tmp_path):
    done = SimpleNamespace(returncode=0, stdout=TABLE, stderr="")
    actual = find_refusal(
        trt_llama, rtx, capability=(8, 9), shapes=SHAPES, out=tmp_path / "x.onnx", run=lambda *_, **__: done
    )
    assert actual.parser == "| Unique | n_7 | no such operator"
    assert actual.subgraph is None


def test_an_encoder_is_asked_about_as_well(rtx, text_to_text_tensorrt, tmp_path):
    answers = ["Graph is fully supported by TensorRT", TABLE]

    def run(command, *, cwd, **_):
        assert (cwd / "model.onnx.data").is_file()  # which holds what both halves have
        return SimpleNamespace(returncode=0, stdout=answers.pop(0), stderr="")

    shapes = Shapes(capacity=32, prompt=1, source=16)
    actual = find_refusal(
        text_to_text_tensorrt, rtx, capability=(8, 9), shapes=shapes, out=tmp_path / "x.onnx", run=run
    )
    assert actual.parser == "| Unique | n_7 | no such operator"


def test_a_tool_that_fails_or_hangs_is_one_sentence(rtx, trt_llama, tmp_path):
    arguments = {"capability": (8, 9), "shapes": SHAPES, "out": tmp_path / "x.onnx"}
    done = SimpleNamespace(returncode=1, stdout="", stderr="[!] broken\n")
    with pytest.raises(InputError, match="inspect capability failed.*broken"):
        find_refusal(trt_llama, rtx, **arguments, run=lambda *_, **__: done)

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("polygraphy", 1)

    with pytest.raises(InputError, match="took too long"):
        find_refusal(trt_llama, rtx, **arguments, run=hang)


def test_a_missing_polygraphy_names_the_line_to_install_it(trt_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    library = Library(name="tensorrt-rtx", module=None)
    with pytest.raises(MissingDependencyError, match=r"polygraphy.*pip install 'jisu\[tensorrt-rtx\]'"):
        find_refusal(trt_llama, library, capability=(8, 9), shapes=SHAPES, out=tmp_path / "x.onnx")
    assert refusal.__doc__
