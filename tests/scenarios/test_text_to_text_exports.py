"""Models with an encoder and a decoder, from checkpoint to published folder, and known ways to break one."""

from __future__ import annotations

import json

import onnx_ir as ir
import pytest

from jisu.exporter import pipeline
from jisu.exporter.contract.artifact import ENCODER, ENCODER_WEIGHTS, GRAPH, WEIGHTS
from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.exporter.pipeline import export
from jisu.exporter.sources import load_source
from jisu.exporter.tracing.trace_source import trace_source, trace_source_encoder
from jisu.exporter.verification import verify
from tests.exporter.passes.draft import copied
from tests.support.models import TINY_VOCAB, biased_text_to_text_config, text_to_text_config, write_tiny


def counts(artifact, graph):
    return {step["pass"]: step["count"] for step in artifact.manifest.recipe if step.get("graph") == graph}


def operators(path):
    actual = [node.op_type for node in ir.load(path).graph]
    return {name: actual.count(name) for name in set(actual)}


def stored_elements(*paths):
    """Elements of all weights, each place in a file once."""
    places = {}
    for path in paths:
        for value in ir.load(path).graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                places[str(tensor.location), tensor.offset] = tensor.size
    return sum(places.values())


def test_it_is_verified_with_sources_and_answers_of_several_lengths(text_to_text_artifact):
    manifest = text_to_text_artifact.manifest
    names = [check["name"] for check in manifest.gate["checks"]]
    assert {"prefill-1", "prefill-300", "source-1", "source-2", "source-37", "source-300", "batch-3"} <= set(names)
    assert {"decode", "decode-without-cache", "chunked-prefill", "rewind", "greedy", "model-facts"} <= set(names)
    assert manifest.model_kind == "text2text-generation"
    assert (manifest.model.decoder_start, manifest.model.forced_eos, manifest.model.layers) == (2, 1, 2)
    assert manifest.model.max_source_positions == 340


def test_the_decoder_reads_what_the_encoder_writes_and_computes_none_of_it_again(text_to_text_artifact):
    signature = text_to_text_artifact.manifest.signature
    assert [spec.past for spec in signature.encoded] == [
        "encoder_state.mask",
        *(f"encoder_state.{layer}.{role}" for layer in range(2) for role in ("key", "value")),
    ]
    assert signature.encoded[1].dims == ("B", 2, "source", 16)
    assert [spec.past for spec in signature.written][:2] == ["past_key_values.0.key", "past_key_values.0.value"]
    decoder, encoder = operators(text_to_text_artifact.graph), operators(text_to_text_artifact.encoder)
    assert (decoder["GroupQueryAttention"], decoder["Attention"]) == (2, 2)
    assert encoder["Attention"] == 2, "the decoder's own layers have no place in the encoder's graph"
    # query, key and value of its own packed, output, query of the source, output, two of the feed-forward part
    assert decoder["MatMul"] == 2 * 6 + 1
    assert counts(text_to_text_artifact, None)["lower_gqa"] == 2


def test_no_weight_is_stored_twice(text_to_text_artifact, text_to_text_source):
    module = load_source(text_to_text_source).module
    parameters = sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)
    stored = stored_elements(text_to_text_artifact.graph, text_to_text_artifact.encoder)
    small = sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 1)
    # Positions are one table in both halves, although they are two parameters.
    positions = module.model.encoder.embed_positions.weight.numel()
    assert parameters - positions <= stored <= parameters - positions + small + TINY_VOCAB


def test_relative_biases_are_looked_up_for_each_rows_own_past(tmp_path):
    """Every check with a past, chunks and unequal rows included, depends on it."""
    write_tiny(tmp_path / "source", biased_text_to_text_config())
    artifact = export(tmp_path / "source", tmp_path / "out", target="portable")
    assert artifact.manifest.model.max_positions is None
    assert operators(artifact.graph)["Attention"] == 4
    assert all(check["passed"] for check in artifact.manifest.gate["checks"])
    assert counts(artifact, "encoder")["fuse_rms_norm"] == 5


def test_int8_is_judged_by_quality_and_holds_the_intended_integers(unedited, text_to_text_source, tmp_path):
    artifact = export(text_to_text_source, tmp_path / "out", precision="int8")
    checks = {check["name"]: check for check in artifact.manifest.gate["checks"]}
    assert {"mean-kl", "top-1", "stored-weights"} <= set(checks)
    assert operators(artifact.encoder)["MatMulNBits"] == counts(artifact, "encoder")["lower_matmul_nbits"] == 2 * 6 + 4


@pytest.mark.parametrize(
    ("precision", "target"),
    [("int4", "ort-cpu"), ("w8a8-dynamic", "ort-cpu"), ("int4", "ort-cuda"), ("w8a8", "tensorrt")],
)
def test_what_needs_a_decoder_alone_is_refused_at_once(text_to_text_source, tmp_path, precision, target):
    with pytest.raises(
        InputError, match=f"cannot be exported in {precision} for {target}.*Allowed: fp32, fp16, bf16, int8"
    ):
        export(text_to_text_source, tmp_path / "out", precision=precision, target=target)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "precision"), [("ort-cuda", "bf16"), ("tensorrt", "int8")])
def test_it_is_verified_for_gpus(unedited, text_to_text_source, tmp_path, target, precision):
    limits = {"max_kl": 0.5, "min_top1": 0.3, "max_perplexity_ratio": 2.0}
    artifact = export(text_to_text_source, tmp_path / "out", target=target, precision=precision, **limits)
    gate = artifact.manifest.gate
    assert (gate["accepted"], gate["ran_on"]["backend"]) == (True, "ort-cpu")
    assert {"float-types-encoder", "cpu-graph-encoder", "stored-weights"} <= {check["name"] for check in gate["checks"]}
    decoder, encoder = operators(artifact.graph), operators(artifact.encoder)
    if target == "ort-cuda":
        assert decoder["GroupQueryAttention"] == 2
    else:
        # A cache that is written in place, and each product's integers dequantized by themselves.
        assert (decoder["TensorScatter"], decoder["Attention"], encoder["Attention"]) == (4, 4, 2)
        assert encoder["DequantizeLinear"] == counts(artifact, "encoder")["quantize_weights"] == 2 * 6 + 4
        assert "lint_tensorrt" in counts(artifact, "encoder")
    # What the one graph writes is what the other reads, in half as well.
    kinds = {spec.past: spec.dtype for spec in artifact.manifest.signature.encoded}
    assert kinds.pop("encoder_state.mask") == "int64"
    assert set(kinds.values()) == {"bfloat16" if precision == "bf16" else "float16"}


def test_it_is_verified_again(text_to_text_artifact, text_to_text_source):
    assert verify(text_to_text_artifact.folder, source=text_to_text_source).accepted


@pytest.fixture(scope="module")
def traced(text_to_text_source):
    source = load_source(text_to_text_source)
    return trace_source(source), trace_source_encoder(source)


@pytest.fixture
def rejected(monkeypatch, traced, text_to_text_source, tmp_path):
    """Edit the traced graphs, export, and return what the gate says."""

    def attempt(edit):
        decoder, encoder = copied(traced[0]), copied(traced[1])
        edit(decoder.graph, encoder.graph)
        monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: decoder)
        monkeypatch.setattr(pipeline, "trace_source_encoder", lambda source: encoder)
        with pytest.raises(GateRejectedError) as caught:
            export(text_to_text_source, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert (tmp_path / "out.rejected" / "rejected.json").is_file()
        return str(caught.value)

    return attempt


@pytest.fixture
def unedited(monkeypatch, traced):
    """Export the graphs that were traced once."""
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: copied(traced[0]))
    monkeypatch.setattr(pipeline, "trace_source_encoder", lambda source: copied(traced[1]))


def test_the_harness_itself_is_accepted(unedited, text_to_text_source, tmp_path):
    assert export(text_to_text_source, tmp_path / "out").manifest.gate["accepted"]


def exchange_outputs(graph, one, other):
    """Let two outputs give each other's values under their own names."""
    first, second = graph.outputs[one], graph.outputs[other]
    graph.outputs[one], graph.outputs[other] = second, first
    first.name, second.name = second.name, first.name


@pytest.mark.parametrize("tensor", [1, 2])
def test_cross_attention_of_two_layers_swapped(rejected, tensor):
    message = rejected(lambda decoder, encoder: exchange_outputs(encoder, tensor, tensor + 2))
    assert "first prefill-1" in message


def drop_masks(graph, *, reading):
    for node in graph:
        if node.op_type == "Attention" and reading(node):
            node.replace_input_with(3, None)


def test_the_encoders_mask_dropped(rejected):
    message = rejected(lambda decoder, encoder: drop_masks(encoder, reading=lambda node: True))
    assert "first batch-3" in message
    assert "how rows or padding are told apart is at fault" in message


def test_the_decoders_mask_of_the_source_dropped(rejected):
    def of_source(node):
        return node.inputs[1].is_graph_input()

    message = rejected(lambda decoder, encoder: drop_masks(decoder, reading=of_source))
    assert "first batch-3" in message


def test_relative_positions_shifted_by_one(monkeypatch, tmp_path):
    from jisu.exporter.tracing.relative_biases import BiasLookup

    lookup = BiasLookup._of_rows

    def shifted(self, bias, new):
        self._past_length = self._past_length + 1
        return lookup(self, bias, new)

    monkeypatch.setattr(BiasLookup, "_of_rows", shifted)
    write_tiny(tmp_path / "source", biased_text_to_text_config(num_layers=1))
    with pytest.raises(GateRejectedError, match="first prefill-2"):
        export(tmp_path / "source", tmp_path / "out")


def test_another_start_token_in_the_manifest_is_noticed(text_to_text_artifact, text_to_text_source, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(text_to_text_artifact.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["decoder_start"] = 7
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = verify(folder, source=text_to_text_source)
    assert "decoder_start is 7 where the source has 2" in result.summary


def test_the_files_of_both_graphs_are_recorded(text_to_text_artifact):
    assert {GRAPH, WEIGHTS, ENCODER, ENCODER_WEIGHTS} <= set(text_to_text_artifact.manifest.files)
    assert "genai_config.json" not in text_to_text_artifact.manifest.files


def test_a_checkpoint_that_names_no_start_is_refused(tmp_path):
    write_tiny(tmp_path / "source", text_to_text_config(), tokenizer=False)
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / "source" / name
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if "start" not in key}))
    with pytest.raises(InputError, match="does not say which token its decoder begins with"):
        load_source(tmp_path / "source")


def test_an_outline_has_the_facts_without_the_weights(text_to_text_source):
    outline = load_source(text_to_text_source, outline=True)
    assert outline.model_kind == "text2text-generation"
    assert outline.model == load_source(text_to_text_source).model
