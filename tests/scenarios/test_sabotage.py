"""Known ways to break an export: none may be published, and the message says what differs first."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch

import jisu
from jisu.exporter import pipeline
from jisu.exporter.contract.artifact import WEIGHTS
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.packaging import artifact_files
from jisu.exporter.sources.source import Source
from tests.exporter.passes.draft import copied


@pytest.fixture
def edit_trace(monkeypatch, tiny_traced):
    """Edit the portable graph before the passes see it."""

    def install(edit):
        def trace(source, **_):
            model = copied(tiny_traced)
            edit(model.graph)
            return model

        monkeypatch.setattr(pipeline, "trace_source", trace)

    install(lambda graph: None)
    return install


@pytest.fixture
def edit_lowered(monkeypatch, edit_trace):
    """Edit the graph after the passes."""
    run_recipe = pipeline.run_recipe

    def install(edit):
        def run(model, steps, context):
            records = run_recipe(model, steps, context)
            edit(model.graph)
            return records

        monkeypatch.setattr(pipeline, "run_recipe", run)

    return install


@pytest.fixture
def rejected(tiny_source, tmp_path, capsys):
    """Export through the command line; returns the message and the gate's record."""

    def export(*words):
        out = tmp_path / "out"
        assert (
            jisu.main(["export", str(tiny_source), "--out", str(out), "--quiet", *words]) == GateRejectedError.exit_code
        )
        assert not out.exists()
        record = json.loads((tmp_path / "out.rejected" / "rejected.json").read_text())
        return capsys.readouterr().err, record["gate"]

    return export


def set_weight(graph, name, edit):
    value = graph.initializers[name]
    array = value.const_value.numpy().copy()
    value.const_value = ir.tensor(np.ascontiguousarray(edit(array)), name=name)


def test_the_harness_itself_is_accepted(edit_lowered, tiny_source, tmp_path):
    edit_lowered(lambda graph: None)
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--quiet"]) == 0


@pytest.mark.parametrize("target", ["portable", "ort-cpu"])
def test_a_dropped_causal_mask(monkeypatch, rejected, target):
    from jisu.exporter.tracing import routing

    def all_seen(past_length, *, batch_size, q_length, kv_length, **_):
        return torch.ones((batch_size, 1, q_length, kv_length), dtype=torch.bool)

    monkeypatch.setattr(routing, "_mask", all_seen)
    message, gate = rejected("--target", target)
    assert "first prefill-" in message
    assert "layer 0" in gate["where"]


def exchange(graph, one, other):
    for name in [name for name in graph.initializers if f".layers.{one}." in name]:
        twin = name.replace(f".layers.{one}.", f".layers.{other}.")
        first, second = graph.initializers[name], graph.initializers[twin]
        first.const_value, second.const_value = second.const_value, first.const_value


@pytest.mark.parametrize("first", [0, 1])
def test_two_layers_swapped(edit_trace, rejected, first):
    edit_trace(lambda graph: exchange(graph, first, first + 1))
    message, gate = rejected()
    assert "first prefill-1" in message
    assert f"layer {first}" in gate["where"]
    assert gate["where"] in message


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_nan_in_one_weight(edit_trace, rejected, layer):
    def edit(graph):
        set_weight(
            graph,
            f"model.layers.{layer}.mlp.down_proj.weight",
            lambda array: np.where(np.arange(array.size).reshape(array.shape) == 77, np.nan, array).astype(np.float32),
        )

    edit_trace(edit)
    message, gate = rejected()
    assert "first finite: NaN or infinity" in message
    assert f"layer {layer}" in gate["where"]


def test_a_wrong_rotary_base(edit_lowered, rejected):
    def edit(graph):
        names = [name for name in graph.initializers if name.startswith("rotary_table")]
        assert len(names) == 2
        for name in names:
            function = np.cos if graph.initializers[name].const_value.numpy()[0, 0] == 1 else np.sin
            angles = np.arange(512)[:, None] * 500.0 ** (-np.arange(8) / 8)
            set_weight(graph, name, lambda array, f=function, a=angles: f(a).astype(np.float32))

    edit_lowered(edit)
    message, gate = rejected()
    assert "first prefill-2" in message  # one token alone has no distance to another
    assert "layer 0" in gate["where"]


def test_a_cache_that_is_never_updated(edit_lowered, rejected):
    def edit(graph):
        pasts = {value.name: value for value in graph.inputs}
        for place, value in enumerate(list(graph.outputs)):
            if value.name.startswith("present."):
                past = pasts["past_key_values." + value.name.removeprefix("present.")]
                copy = ir.node("Identity", [past])
                copy.outputs[0].type, copy.outputs[0].shape = past.type, past.shape
                name, value.name = value.name, value.name + ".lost"
                copy.outputs[0].name = name
                graph.append(copy)
                graph.outputs[place] = copy.outputs[0]

    edit_lowered(edit)
    message, gate = rejected()
    failed = [check["name"] for check in gate["checks"] if not check["passed"]]
    assert "decode" in failed
    assert not any(name.startswith("prefill") for name in failed)
    assert "first batch-3" in message  # the first check that goes on after a prefill


def test_a_tokenizer_of_another_model(edit_lowered, monkeypatch, rejected):
    save = Source.save_tokenizer

    def save_another(self, folder):
        save(self, folder)
        data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        vocab = data["model"]["vocab"]
        vocab["a"], vocab["e"] = vocab["e"], vocab["a"]
        (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")

    monkeypatch.setattr(Source, "save_tokenizer", save_another)
    message, gate = rejected()
    assert "first tokenizer" in message
    assert next(check["name"] for check in gate["checks"] if not check["passed"]).startswith("tokenizer")


def test_permuted_rows_of_the_output_projection(edit_trace, rejected):
    edit_trace(lambda graph: set_weight(graph, "lm_head.weight", lambda array: np.roll(array, 1, axis=0)))
    message, gate = rejected()
    assert "first prefill-1" in message
    assert "final norm and the output projection" in gate["where"]


def test_a_wrong_epsilon(edit_lowered, rejected):
    def edit(graph):
        for node in graph:
            if "epsilon" in node.attributes:
                node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-1)

    edit_lowered(edit)
    message, gate = rejected()
    assert "first prefill-1" in message
    assert "layer 0" in gate["where"]


def test_positions_off_by_one_after_a_past(edit_lowered, rejected):
    """A shift of all positions changes nothing in a rotary model; one that begins with the past does."""

    def edit(graph):
        past = next(value for value in graph.inputs if value.name == "past_length")
        rotations = [node for node in graph if node.op_type == "RotaryEmbedding"]
        first, positions = rotations[0], rotations[0].inputs[3]
        axis = ir.Value(name="one_axis", const_value=ir.tensor(np.array([1]), name="one_axis"))
        graph.initializers["one_axis"] = axis
        sign = ir.node("Sign", [past])
        column = ir.node("Unsqueeze", [sign.outputs[0], axis])
        moved = ir.node("Add", [positions, column.outputs[0]])
        graph.insert_before(first, [sign, column, moved])
        for node in rotations:
            node.replace_input_with(3, moved.outputs[0])

    edit_lowered(edit)
    message, gate = rejected("--target", "portable")
    failed = [check["name"] for check in gate["checks"] if not check["passed"]]
    assert not any(name.startswith("prefill") for name in failed)
    assert "first batch-3" in message  # the first check that goes on after a prefill


def test_a_stamped_layer_that_reads_another_layers_weights(monkeypatch, rejected):
    from jisu.exporter.tracing import trace

    parameter = trace.parameter_of
    monkeypatch.setattr(
        trace, "parameter_of", lambda root, name: parameter(root, name.replace(".layers.2.", ".layers.1."))
    )
    message, gate = rejected()
    assert "first prefill-1" in message
    assert "layer 2" in gate["where"]


def test_weights_swapped_on_the_disk_after_writing(edit_lowered, monkeypatch, rejected):
    """The gate looks at the files that users will run, not at the graph in memory."""
    record_files = artifact_files.record_files

    def alter(folder):
        data = bytearray((folder / WEIGHTS).read_bytes())
        half = len(data) // 8 * 4
        (folder / WEIGHTS).write_bytes(data[half:] + data[:half])
        return record_files(folder)

    monkeypatch.setattr(artifact_files, "record_files", alter)
    message, _ = rejected()
    assert "first prefill-1" in message or "first finite" in message


@pytest.fixture
def rejected_classifier(tiny_classifier_source, tmp_path, capsys):
    """Export a classifier through the command line; returns the message and the names of the checks that failed."""

    def export(*words):
        out = tmp_path / "out"
        words = ("export", str(tiny_classifier_source), "--out", str(out), "--quiet", *words)
        assert jisu.main(list(words)) == GateRejectedError.exit_code
        assert not out.exists()
        record = json.loads((tmp_path / "out.rejected" / "rejected.json").read_text())
        return capsys.readouterr().err, [check["name"] for check in record["gate"]["checks"] if not check["passed"]]

    return export


@pytest.fixture(scope="module")
def traced_classifier(tiny_classifier_source):
    from jisu.exporter.sources import load_source
    from jisu.exporter.tracing.trace_source import trace_source

    return trace_source(load_source(tiny_classifier_source))


@pytest.fixture
def edit_classifier(monkeypatch, traced_classifier):
    def install(edit):
        model = copied(traced_classifier)
        edit(model.graph)
        monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: model)

    return install


def drop_mask(graph):
    """Every attention sees every key; the mask goes on being read, so that no input is lost."""
    for node in [node for node in graph if node.op_type == "Attention"]:
        opposite = ir.node("Not", [node.inputs[3]])
        everything = ir.node("Or", [node.inputs[3], opposite.outputs[0]])
        graph.insert_before(node, [opposite, everything])
        for made in (opposite, everything):
            made.outputs[0].type, made.outputs[0].shape = node.inputs[3].type, node.inputs[3].shape
        node.replace_input_with(3, everything.outputs[0])


def exchange_labels(graph):
    for name in ("classifier.weight", "classifier.bias"):
        set_weight(graph, name, lambda array: array[[1, 0, 2]])


def shuffle_layers(graph):
    for name in [name for name in graph.initializers if ".layer.0." in name]:
        first, second = graph.initializers[name], graph.initializers[name.replace(".layer.0.", ".layer.1.")]
        first.const_value, second.const_value = second.const_value, first.const_value


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (drop_mask, "batch-3"),
        (exchange_labels, "text-1"),
        (shuffle_layers, "text-1"),
        (lambda graph: set_weight(graph, "classifier.bias", lambda array: array * np.float32(np.nan)), "finite"),
    ],
    ids=["mask", "labels", "layers", "nan"],
)
def test_a_classifier_that_is_wrong(edit, first, precision, edit_classifier, rejected_classifier):
    edit_classifier(edit)
    message, failed = rejected_classifier("--precision", precision)
    if precision == "fp32":
        assert failed[0] == first
        assert f"first {first}" in message


def test_a_classifier_whose_manifest_exchanges_two_labels(monkeypatch, edit_classifier, rejected_classifier):
    from dataclasses import replace

    write = pipeline._write

    def exchanged(*arguments, **options):
        candidate = write(*arguments, **options)
        manifest = candidate.artifact.manifest
        manifest = replace(manifest, model=replace(manifest.model, labels=("neutral", "sad", "glad")))
        return replace(candidate, artifact=replace(candidate.artifact, manifest=manifest))

    edit_classifier(lambda graph: None)
    monkeypatch.setattr(pipeline, "_write", exchanged)
    _, failed = rejected_classifier()
    assert failed == ["model-facts"]
