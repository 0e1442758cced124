from __future__ import annotations

import json
import time
from collections import namedtuple

import pytest

import jisu
from jisu.exporter import pipeline
from jisu.exporter.contract.artifact import WEIGHTS
from jisu.exporter.contract.errors import InputError
from jisu.exporter.dry_run import _between, estimate_export
from jisu.exporter.gate import GateResult
from jisu.exporter.gate.result import Check
from jisu.exporter.pipeline import export
from jisu.exporter.request import ExportRequest
from jisu.exporter.sources import load_source
from tests.exporter.passes.draft import copied
from tests.support.models import (
    tiny_tokenizer,
    write_tiny_embedder,
    write_tiny_gguf,
    write_tiny_llama,
    write_tiny_reader,
)
from tests.support.quantized_folders import GPTQ, gptq, rewrite


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Wide enough that weights outweigh everything that is stored beside them, and tied."""
    folder = tmp_path_factory.mktemp("estimate") / "source"
    return write_tiny_llama(folder, layers=2, hidden=256, heads=4, kv_heads=2, vocab=512)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("estimate") / "model.gguf", quantization="Q4_1")


def dry_run(checkpoint, out, **options):
    return estimate_export(ExportRequest(checkpoint=checkpoint, out=out, **options))


@pytest.fixture(scope="module")
def traced(checkpoint):
    return pipeline.trace_source(load_source(checkpoint))


@pytest.mark.parametrize(
    ("precision", "target"),
    [
        *((name, "ort-cpu") for name in ("fp32", "bf16", "int8", "int4", "w8a8-dynamic")),
        ("fp16", "portable"),
        ("int8", "portable"),
        ("int8", "ort-cuda"),
        ("int8", "tensorrt"),
    ],
)
def test_sizes_are_those_of_the_export(checkpoint, traced, tmp_path, monkeypatch, precision, target):
    passed = Check(name="prefill-2", passed=True, value=0.0, limit=0.1, unit="", detail="Not asked.")
    nothing = GateResult(checks=(passed,), reference="none")
    monkeypatch.setattr(pipeline, "prove", lambda artifact, source, **options: nothing)
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: copied(traced))
    estimate = dry_run(checkpoint, tmp_path / "out", precision=precision, target=target)
    written = export(checkpoint, tmp_path / "out", precision=precision, target=target)
    weights = estimate.size.table_bytes + sum(share.largest_bytes for share in estimate.size.shares)
    assert weights == pytest.approx((written.folder / WEIGHTS).stat().st_size, rel=0.01)
    assert estimate.size.largest_bytes == pytest.approx(written.size, rel=0.06)  # of two megabytes a graph is much
    assert [step["pass"] for step in written.manifest.recipe] == list(estimate.passes)
    assert estimate.size.smallest_bytes == estimate.size.largest_bytes


@pytest.mark.slow
def test_the_size_of_the_real_model_is_right_within_a_hundredth(smollm2_gguf, smollm2_artifact, tmp_path):
    estimate = dry_run(smollm2_gguf, tmp_path / "out")
    assert estimate.size.largest_bytes == pytest.approx(smollm2_artifact.size, rel=0.01)


def test_nothing_is_written_and_no_weight_is_read(checkpoint, tmp_path):
    outline = tmp_path / "outline"
    outline.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (outline / name).write_bytes((checkpoint / name).read_bytes())
    before = sorted(tmp_path.rglob("*"))
    estimate = dry_run(outline, tmp_path / "out", precision="int4")
    assert sorted(tmp_path.rglob("*")) == before
    assert estimate.calibration["windows"] == 32


def test_seven_billion_parameters_are_planned_in_seconds(tmp_path):
    from transformers import LlamaConfig

    folder = tmp_path / "large"
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        pad_token_id=0,
    ).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    started = time.perf_counter()
    estimate = dry_run(folder, tmp_path / "out", precision="int8")
    assert time.perf_counter() - started < 30
    assert estimate.model["parameters"] == 6_738_415_616
    # A byte each and a scale of two for every 32, but for every 64 in the layers with most input features.
    scales = 2 * (6_738_415_616 / 32 - 32 * 4096 * 11008 / 64)
    assert estimate.size.largest_bytes == pytest.approx(6_738_415_616 + scales, rel=0.005)
    assert estimate.disk_needed > 4 * 6.7e9
    # The weights lie in a file: the artifact as it is opened, and the largest weight a few times.
    # Keys and values of all 32 heads take 2.4 GB for the gate's longest text.
    assert 1.1 * estimate.size.largest_bytes < estimate.peak_bytes < 2 * estimate.size.largest_bytes


def test_what_is_kept_of_a_gguf_file_is_told_by_type(gguf, tmp_path):
    estimate = dry_run(gguf, tmp_path / "out", keep_quantization=True)
    assert any("closest to Q4_1" in share.label for share in estimate.size.shares)


def test_what_is_kept_of_a_quantized_folder_is_told_by_format(tmp_path):
    plain = write_tiny_llama(tmp_path / "plain", layers=1)
    folder, _ = rewrite(plain, tmp_path / "model", gptq, settings=GPTQ)
    estimate = dry_run(folder, tmp_path / "out", keep_quantization=True)
    share = next(share for share in estimate.size.shares if "exactly GPTQ" in share.label)
    assert share.weights == 7
    # Half a byte and a sixteenth of a two-byte scale each; zero points, if any, are another thirty-second of a nibble.
    assert share.smallest_bytes == share.elements * (0.5 + 2 / 32)
    assert share.smallest_bytes < share.largest_bytes < 1.05 * share.smallest_bytes


def test_a_mix_has_a_range_of_sizes(checkpoint, tmp_path):
    estimate = dry_run(checkpoint, tmp_path / "out", max_kl=0.05)
    assert estimate.size.smallest_bytes < estimate.size.largest_bytes / 3
    limit = estimate.size.smallest_bytes + 100_000
    assert dry_run(checkpoint, tmp_path / "out", target_size=limit).size.largest_bytes == limit


def test_a_tied_embedding_that_is_kept_by_one_name_is_whole_in_every_mix(tmp_path):
    tied = write_tiny_llama(tmp_path / "tied", layers=1)
    sizes = [
        dry_run(tied, tmp_path / "out", max_kl=0.05, keep=keep).size.smallest_bytes
        for keep in ([], ["lm_head"], ["model.embed_tokens"])
    ]
    assert sizes[0] < sizes[1] == sizes[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4", "keep": ["*.nowhere"]}, "matches nothing"),
        ({"precision": "int8", "block_size": 256, "keep": []}, "does not divide"),
        ({"precision": "fp32", "block_size": 32}, "no blocks"),
        ({"target_size": 100_000}, "No mixed precision is this small"),
        ({"max_kl": 0.1, "keep": ["*.nowhere"]}, "matches nothing"),
        ({"precision": "int4", "calibration": "missing.txt"}, "missing.txt"),
        ({"keep_quantization": True}, "GGUF"),
        ({"precision": "int8", "max_kl": float("nan")}, "--max-kl nan"),
        ({"precision": "int8", "min_top1": 1.5}, "--min-recall from 0 to 1"),
    ],
)
def test_what_the_export_refuses_the_dry_run_refuses(tmp_path, options, message, tiny_source):
    said = []
    for attempt in (dry_run, export):
        with pytest.raises(InputError, match=message) as refused:
            attempt(tiny_source, tmp_path / "out", **options)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_plan_and_ends(checkpoint, tmp_path, capsys):
    code = jisu.main(["export", str(checkpoint), "--out", str(tmp_path / "out"), "--precision", "int4", "--dry-run"])
    said = capsys.readouterr().out
    assert code == 0
    assert "nothing is written" in said
    assert "4 bits in blocks of 32, with zero points" in said
    assert "mean KL divergence at most 0.15 nats" in said
    assert max(map(len, said.splitlines()[1:])) <= 120
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_an_error_after_the_estimate(checkpoint, tmp_path, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    code = jisu.main(["export", str(checkpoint), "--out", str(tmp_path / "out"), "--dry-run"])
    captured = capsys.readouterr()
    assert code == 2
    assert "too little free space" in captured.err
    assert "artifact" in captured.out


def test_the_plan_is_json(checkpoint, tmp_path):
    record = json.loads(json.dumps(dry_run(checkpoint, tmp_path / "out", precision="int8").to_dict()))
    assert record["size"]["smallest"] == record["size"]["largest"]
    assert record["seconds"] > 0


def test_times_are_said_as_the_range_that_is_known() -> None:
    assert _between(20) == "10 s to 40 s"
    assert _between(600) == "5 min to 20 min"


def test_the_command_prints_one_object_with_what_the_text_says(checkpoint, tmp_path, capsys):
    words = ["export", str(checkpoint), "--out", str(tmp_path / "out"), "--precision", "int8", "--dry-run"]
    assert jisu.main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert (record["checkpoint"], record["precision"], record["target"]) == (str(checkpoint), "int8", "ort-cpu")
    assert record["seconds"] == sum(stage["seconds"] for stage in record["stages"]) > 0
    assert record["peak_bytes"] == max(stage["peak_bytes"] for stage in record["stages"])
    assert record["size"]["smallest"] <= record["size"]["largest"] < record["disk_free"]
    assert any("mean KL divergence" in check for check in record["checks"])
    assert list(tmp_path.iterdir()) == []
    assert jisu.main([*words[:1], str(tmp_path / "nothing"), *words[2:], "--json"]) == 2
    assert capsys.readouterr().out == "", "bad input prints no object"


@pytest.mark.parametrize(
    ("head", "precision", "said"),
    [
        ("TokenClassification", "fp32", "held-out texts: the same tags"),
        ("MaskedLM", "fp32", "held-out texts: the same words at masked places"),
        ("QuestionAnswering", "fp32", "held-out texts and on pairs: the same answers"),
        ("SequenceClassification", "fp32", "held-out texts and on pairs: the same scores"),
        ("SequenceClassification", "int8", "mean KL divergence at most 0.015 nats"),
        (None, "fp32", "held-out texts: the same vectors"),
        (None, "int8", "cosine with the source's vectors at least 0.995"),
    ],
)
def test_the_plan_says_what_models_that_read_texts_are_asked(head, precision, said, tmp_path):
    labels = ("a",) if head == "SequenceClassification" else ("a", "b")
    if head is None:
        folder = write_tiny_embedder(tmp_path / "source")
    else:
        folder = write_tiny_reader(tmp_path / "source", head, labels=labels)
    estimate = dry_run(folder, tmp_path / "out", precision=precision)
    assert any(said in check for check in estimate.checks), estimate.checks
