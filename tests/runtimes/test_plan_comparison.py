from __future__ import annotations

import numpy as np
import pytest

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.runtimes import plan_comparison
from jisu.runtimes.backends.tensorrt import opening
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from jisu.runtimes.machine.gpu import GpuProbe
from jisu.runtimes.plan_comparison import compare_plan, recorded_feeds, text_to_compare

SHAPES = Shapes(capacity=64, prompt=16)


def runners(artifact, *, change=lambda model: None):
    """Polygraphy's runner of another graph instead of a plan's; ``profiles`` tells what was asked for."""
    import onnx_ir as ir
    from polygraphy.backend.onnxrt import OnnxrtRunner

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    def runner_of(profile):
        runner_of.profiles.append(profile)
        model = ir.load(artifact.cpu_graph)
        change(model)
        options = import_onnxruntime().SessionOptions()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(artifact.folder))
        data = ir.serde.serialize_model(model).SerializeToString()
        return OnnxrtRunner(import_onnxruntime().InferenceSession(data, options), name="plan")

    runner_of.profiles = []
    return runner_of


def late_cache(model):
    """Writes the keys of layer 1 one place too late, wherever something is there already."""
    import onnx_ir as ir

    node = [node for node in model.graph if node.op_type == "TensorScatter"][2]
    one = ir.node("Constant", [], {"value": ir.tensor(np.array([1], np.int64))})
    zero = ir.node("Constant", [], {"value": ir.tensor(np.array([0], np.int64))})
    some = ir.node("Greater", [node.inputs[2], zero.outputs[0]])
    step = ir.node("Where", [some.outputs[0], one.outputs[0], zero.outputs[0]])
    later = ir.node("Add", [node.inputs[2], step.outputs[0]])
    model.graph.insert_before(node, [one, zero, some, step, later])
    node.replace_input_with(2, later.outputs[0])


def test_both_are_fed_states_that_the_graph_left_behind(trt_llama):
    feeds = list(recorded_feeds(trt_llama, [5, 6, 7, 8, 9], [3, 1, 1], capacity=64))
    assert [feed["past_length"].item() for feed in feeds] == [0, 3, 4]
    assert [feed["input_ids"].tolist() for feed in feeds] == [[[5, 6, 7]], [[8]], [[9]]]
    keys = [feed["past_key_values.0.key"] for feed in feeds]
    filled = [int((key[0] != 0).any(axis=(0, 2)).sum()) for key in keys]
    assert filled == [0, 3, 4]


def test_a_plan_that_says_the_same_does_not_part(trt_llama):
    runner_of = runners(trt_llama)
    actual = compare_plan(trt_llama, runner_of, shapes=SHAPES, token_ids=text_to_compare(trt_llama, 8), prompt=5)
    assert runner_of.profiles == [0, 1]
    assert len(actual.calls) == 4
    assert actual.first is None
    assert [*actual.calls[0]][-1] == "logits"
    assert actual.describe()[-1] == "The plan says what its graph says."


def test_the_first_layer_and_step_that_part_are_named(trt_llama):
    runner_of = runners(trt_llama, change=late_cache)
    actual = compare_plan(trt_llama, runner_of, shapes=SHAPES, token_ids=text_to_compare(trt_llama, 8), prompt=5)
    assert actual.first == (1, "present.1.key")
    assert all(actual.calls[0].values())
    assert "part at decode step 1, first in present.1.key" in actual.describe()[-1]
    assert actual.to_dict()["first"] == {"call": 1, "output": "present.1.key"}


def test_what_cannot_be_compared_is_refused(trt_llama, text_to_text_tensorrt):
    ids = text_to_compare(trt_llama, 20)
    with pytest.raises(InputError, match="a prompt of 17 tokens, 20 with.*1 to 16, and up to 64"):
        compare_plan(trt_llama, runners(trt_llama), shapes=SHAPES, token_ids=ids, prompt=17)
    with pytest.raises(InputError, match="a model with an encoder.*a decoder alone"):
        compare_plan(text_to_text_tensorrt, runners(trt_llama), shapes=SHAPES, token_ids=ids, prompt=1)


def test_the_command_compares_on_the_gpu_and_says_when_there_is_none(trt_llama, tmp_path, monkeypatch, capsys):
    words = ["diagnose", str(trt_llama.folder), "--plan", str(tmp_path)]
    assert jisu.main(words) == 2
    assert "Add --backend" in capsys.readouterr().err
    words += ["--backend", "tensorrt-rtx", "--prompt-tokens", "4", "--steps", "2"]
    library = Library(name="tensorrt-rtx", module=None)
    monkeypatch.setattr(opening, "find_plans", lambda *_, **__: (library, (b"",), SHAPES))
    monkeypatch.setattr(plan_comparison, "plan_runner", lambda *_: runners(trt_llama, change=late_cache))
    assert jisu.main(words) == 3
    assert "decode step 2" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(opening, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver"))
    assert jisu.main(words) == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
