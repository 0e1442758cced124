from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jisu.benchmarks.peers import prepare


def make_all(monkeypatch, out, *, checkpoint, failing=()):
    """Run the command with programs that write their target, but for those that fail; returns what was called."""
    called = []

    def call(command):
        target = next(Path(part) for part in reversed(command) if "partial-" in str(part) and "cache" not in str(part))
        called.append(target.name.removeprefix("partial-"))
        target.write_bytes(b"half")
        if called[-1] in failing:
            raise OSError("no luck")

    monkeypatch.setattr(prepare, "call", call)
    monkeypatch.setattr(prepare, "save_for_transformers", lambda checkpoint, folder: folder.mkdir())
    monkeypatch.setattr(sys, "argv", ["prepare", str(checkpoint), "--python", "/other/python", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        prepare.main()
    return called, ended.value.code


def test_every_model_is_made_once_and_what_cannot_be_made_is_tried_again(tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "model.gguf"
    checkpoint.touch()
    out = tmp_path / "models"
    called, code = make_all(monkeypatch, out, checkpoint=checkpoint, failing=["openvino-int8"])
    assert code == "not made: openvino-int8"
    assert "no luck" in capsys.readouterr().out
    models = {"genai-fp32", "genai-int4", "f32.gguf", "f16.gguf", "q8_0.gguf", "q4_k_m.gguf", "q4_0.gguf"}
    models |= {"openvino-int4"}
    assert set(called) == models | {"openvino-int8"}
    made = {path.name for path in out.iterdir() if not path.name.startswith("partial-")}
    assert made == models | {"transformers"}
    # The half that was left is no model.
    called, code = make_all(monkeypatch, out, checkpoint=checkpoint)
    assert (called, code) == (["openvino-int8"], 0)
    assert not [path for path in out.iterdir() if path.name.startswith("partial-")]


def test_of_a_folder_the_models_of_llama_cpp_are_left_out_with_the_reason(tmp_path, monkeypatch, capsys):
    called, code = make_all(monkeypatch, tmp_path / "models", checkpoint=tmp_path)
    assert code == "not made: f32.gguf, f16.gguf, q8_0.gguf, q4_k_m.gguf, q4_0.gguf"
    assert set(called) == {"genai-fp32", "genai-int4", "openvino-int8", "openvino-int4"}
    assert "convert_hf_to_gguf.py" in capsys.readouterr().out
