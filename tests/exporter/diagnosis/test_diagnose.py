from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import jisu
from jisu.exporter import pipeline
from jisu.exporter.contract.artifact import MANIFEST, REJECTED, record_files
from jisu.exporter.diagnosis import diagnose
from jisu.exporter.gate import GateResult
from jisu.exporter.gate.result import Check
from jisu.exporter.sources import load_source
from tests.exporter.passes.draft import copied
from tests.support.models import write_tiny_llama


@pytest.fixture(scope="module")
def module(tiny_source):
    return load_source(tiny_source).module


@pytest.fixture(scope="module")
def lowered(tiny_source, tiny_artifact, tiny_traced, tmp_path_factory):
    """Artifacts of the tiny model by target and precision, each made once; the gate is left out."""
    check = Check(name="none", passed=True, value=None, limit=None, unit="", detail="Left out by a test.")
    made = {("ort-cpu", "fp32"): tiny_artifact}

    def get(target, precision="fp32"):
        if (target, precision) not in made:
            out = tmp_path_factory.mktemp("diagnose") / f"{target}-{precision}"
            with (
                mock.patch.object(pipeline, "prove", lambda *_, **__: GateResult(checks=(check,), reference="none")),
                mock.patch.object(pipeline, "trace_source", lambda _, **__: copied(tiny_traced)),
            ):
                made[target, precision] = pipeline.export(tiny_source, out, target=target, precision=precision)
        return made[target, precision]

    return get


def sabotaged(artifact, folder, edit):
    """A copy of an artifact whose graph was edited behind its back."""
    shutil.copytree(artifact.folder, folder)
    model = ir.load(artifact.cpu_graph)
    edit(model.graph)
    ir.save(model, folder / artifact.cpu_graph.name)
    done = replace(artifact.manifest, files=record_files(folder))
    (folder / MANIFEST).write_text(done.to_json(), encoding="utf-8")
    return folder


def times(name, factor):
    def edit(graph):
        (value,) = (value for key, value in graph.initializers.items() if key.startswith(name))
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=value.name)

    return edit


def see_everything(graph):
    """Layer 2 sees what comes later."""
    node = [node for node in graph if node.op_type == "Attention"][2]
    mask = node.inputs[3]
    unseen = ir.node("Not", [mask])
    either = ir.node("Or", [mask, unseen.outputs[0]])
    for new in (unseen, either):
        new.outputs[0].type = mask.type
    graph.insert_before(node, [unseen, either])
    node.replace_input_with(3, either.outputs[0])


def write_one_back(graph):
    """Layer 1 writes single keys one place too early; a prompt, which begins at place 0, is as it was."""
    node = next(node for node in graph if node.op_type == "TensorScatter" and ".1.key" in node.outputs[0].name)
    place = node.inputs[2]
    one, zero = (
        ir.Value(name=name, const_value=ir.tensor([number], name=name)) for name, number in (("i", 1), ("o", 0))
    )
    for constant in (one, zero):
        graph.initializers[constant.name] = constant
    before = ir.node("Sub", [place, one])
    bounded = ir.node("Max", [before.outputs[0], zero])
    graph.insert_before(node, [before, bounded])
    node.replace_input_with(2, bounded.outputs[0])


def test_nothing_parts_in_what_was_not_touched(lowered, module, tmp_path):
    actual = diagnose(lowered("ort-cpu").folder, source=module, out=tmp_path / "failing", steps=3)
    assert actual.finding is None
    assert actual.pieces == ("embedding", "layer 0", "layer 1", "layer 2", "output")
    assert actual.errors.shape == (5, 4)
    assert actual.errors.max() < 1e-4
    assert not (tmp_path / "failing").exists()


@pytest.mark.parametrize(
    ("target", "precision", "edit", "piece", "step", "operators"),
    [
        ("ort-cpu", "fp32", times("model.layers.1.mlp.down_proj", 1.1), "layer 1", 0, "MatMul model.layers.1.mlp.down"),
        # Its norm was fused with the sum that ends the layer before.
        ("ort-cpu", "fp32", times("model.layers.2.input_layernorm", 1.1), "layer 2", 0, "RMSNormalization model.lay"),
        ("ort-cpu", "fp32", times("lm_head.weight", 1.05), "output", 0, "MatMul lm_head.weight"),
        ("ort-cpu", "fp32", times("model.embed_tokens", 1.05), "embedding", 0, "Gather model.embed_tokens.weight"),
        ("tensorrt", "fp32", see_everything, "layer 2", 0, "Attention"),
        ("tensorrt", "fp32", write_one_back, "layer 1", 1, "Attention"),
        ("tensorrt", "fp16", times("model.layers.1.mlp.up_proj", 1.1), "layer 1", 0, "MatMul model.layers.1.mlp.up"),
        ("ort-cpu", "int8", times("model.layers.0.mlp.down_proj.weight.scales", 4.0), "layer 0", 0, "MatMulNBits"),
    ],
)
def test_what_was_sabotaged_is_named(lowered, module, tmp_path, target, precision, edit, piece, step, operators):
    folder = sabotaged(lowered(target, precision), tmp_path / "a", edit)
    actual = diagnose(folder, source=module, steps=3).finding
    assert (actual.piece, actual.step) == (piece, step)
    assert operators in actual.operators
    assert actual.error > actual.limit
    # The file is a graph that can be run, and gives the wrong numbers again.
    assert actual.subgraph.parent == tmp_path / "a.failing"
    example = np.load(actual.subgraph.with_name("example.npz"))
    session = onnxruntime.InferenceSession(str(actual.subgraph))
    (output,) = session.get_outputs()
    again = session.run(None, {item.name: example[item.name] for item in session.get_inputs()})[0]
    np.testing.assert_allclose(again, example[output.name], rtol=1e-2, atol=1e-2)
    assert np.abs(again.reshape(-1) - example["the source's"].reshape(-1)).max() > 1e-3
    size = sum(file.stat().st_size for file in actual.subgraph.parent.iterdir())
    assert size < sum(file.stat().st_size for file in Path(folder).iterdir())


def test_the_command_prints_layer_step_error_and_path(lowered, tiny_source, tmp_path, capsys):
    folder = sabotaged(lowered("tensorrt"), tmp_path / "a", write_one_back)
    words = ["diagnose", str(folder), "--source", str(tiny_source), "--steps", "2", "--out", str(tmp_path / "small")]
    assert jisu.main(words) == 3
    said = capsys.readouterr().out
    assert "Layer 1 diverges from the source at decode step 1:" in said
    assert f"The smallest failing subgraph: {tmp_path / 'small' / 'model.onnx'}" in said
    assert jisu.main([*words, "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert (data["finding"]["layer"], data["finding"]["step"]) == (1, 1)
    (folder / MANIFEST).rename(folder / REJECTED)  # as an export leaves what its gate rejected
    assert jisu.main(words) == 3
    capsys.readouterr()
    assert jisu.main([*words, "--prompt-tokens", "0"]) == 2
    assert "--prompt-tokens" in capsys.readouterr().err


def test_another_models_source_is_refused_in_a_sentence(tiny_artifact, tiny_classifier_source, tmp_path, capsys):
    words = ["diagnose", str(tiny_artifact.folder), "--source"]
    assert jisu.main([*words, str(tiny_classifier_source)]) == 2
    assert "was made from a model for text-generation" in capsys.readouterr().err
    others = ({"vocab": 400}, "vocab_size is 3"), ({"layers": 3, "hidden": 32}, "where the source has 40160")
    for name, (changes, said) in enumerate(others):
        assert jisu.main([*words, str(write_tiny_llama(tmp_path / str(name), **changes))]) == 2
        assert said in capsys.readouterr().err


def test_a_text_that_ends_before_all_tokens_is_said(tiny_artifact, tmp_path):
    actual = diagnose(tiny_artifact.folder, prompt=5000, steps=2, out=tmp_path / "out")
    assert any("The text ends after" in note and "0 decoded" in note for note in actual.notes)


def test_the_failing_subgraph_is_not_written_into_an_artifact(tiny_artifact, capsys):
    assert jisu.main(["diagnose", str(tiny_artifact.folder), "--out", str(tiny_artifact.folder)]) == 2
    assert "cannot be written into an artifact" in capsys.readouterr().err


def test_a_text_to_text_model_is_refused_in_a_sentence(text_to_text_artifact, capsys):
    assert jisu.main(["diagnose", str(text_to_text_artifact.folder)]) == 2
    assert "not diagnosed yet" in capsys.readouterr().err


def test_a_classifier_has_a_prompt_alone(tiny_classifier, tmp_path):
    actual = diagnose(tiny_classifier.folder, out=tmp_path / "out")
    assert actual.finding is None
    assert actual.errors.shape[1] == 1


@pytest.mark.parametrize("name", ["tiny_ranker", "tiny_embedder", "tiny_tagger", "tiny_answerer"])
def test_every_model_that_reads_texts_can_be_looked_at(name, request, tmp_path):
    """Its answer may be one number, a vector, or have another name than logits."""
    actual = diagnose(request.getfixturevalue(name).folder, out=tmp_path / "out")
    assert actual.finding is None
    assert np.nanmax(actual.errors) < 1e-3


def test_the_states_of_an_encoder_end_its_last_layer(tiny_embedder, tmp_path):
    actual = diagnose(tiny_embedder.folder, out=tmp_path / "out")
    assert actual.pieces == ("embedding", "layer 0", "layer 1", "layer 2", "output")
