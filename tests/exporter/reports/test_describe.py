"""The description holds every number of the manifest that a person asks for, and survives odd records."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact, FileRecord, Manifest, ModelFacts
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.exporter.reports.describe import artifact_to_dict, describe_artifact

MANIFEST = Manifest(
    target="ort-cpu",
    precision="fp32",
    model=ModelFacts(
        architecture="LlamaForCausalLM",
        vocab_size=49152,
        max_positions=8192,
        layers=2,
        parameters=134_515_008,
        bos=1,
        eos=(2,),
        pad=None,
    ),
    signature=Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "K", 49152)),),
        state=tuple(
            StateSpec(past=f"p.{i}", present=f"q.{i}", kind="kv", dtype="float32", dims=("B", 3, "capacity", 64))
            for i in range(4)
        ),
    ),
    recipe=[{"name": "fuse_gqa", "count": 30, "seconds": 0.25}, {"pass": "fuse_skip_norm", "count": 61}],
    gate={
        "accepted": True,
        "reference": "torch fp32",
        "where": "ort-cpu",
        "checks": [
            {"name": "prefill", "passed": True, "value": 3.1234567e-05, "limit": 0.001, "unit": "logits", "detail": ""},
            {"name": "tokenizer", "passed": True, "value": None, "limit": None, "unit": "", "detail": "12 texts"},
        ],
    },
    source={"kind": "gguf", "files": {"m.gguf": {"sha256": "ab12"}}, "licence": None, "tags": ["a", "b"]},
    versions={"torch": "2.13.0"},
    files={
        "model.onnx": FileRecord(size=77, sha256="cd34"),
        "model.onnx.data": FileRecord(size=538_000_000, sha256=""),
    },
)


def describe(manifest: Manifest = MANIFEST, **options: Any) -> str:
    return describe_artifact(Artifact(folder=Path("build/x"), manifest=manifest), **options)


def test_facts_files_and_signature_are_shown() -> None:
    text = describe()
    for line in (
        "  target        ort-cpu",
        "  precision     fp32",
        "  architecture  LlamaForCausalLM",
        "  parameters    134,515,008",
        "  positions     8,192",
        "Files (538 MB, sizes checked)",
        "  model.onnx           77 bytes",
        "  in     input_ids int64 [B, T]",
        "  out    logits float32 [B, K, 49152]",
        "  state  4 x kv float32 [B, 3, capacity, 64]: p.0 ... p.3",
    ):
        assert line in text.splitlines()


def test_gate_shows_each_check_with_its_numbers() -> None:
    lines = describe().splitlines()
    assert "Gate: accepted (ort-cpu), against torch fp32" in lines
    assert "  passed  prefill    3.123e-05 (limit 0.001) logits" in lines
    assert "  passed  tokenizer  12 texts" in lines


def test_gate_that_did_not_accept_is_never_called_accepted() -> None:
    for accepted in (False, None, "yes", 1):
        gate = {**MANIFEST.gate, "accepted": accepted, "checks": [{"name": "prefill", "passed": accepted}]}
        text = describe(dataclasses.replace(MANIFEST, gate=gate))
        assert "Gate: NOT ACCEPTED" in text
        assert "  FAILED  prefill" in text
    assert "was not verified" in describe(dataclasses.replace(MANIFEST, gate={}))


def test_source_is_one_line_for_each_leaf_without_the_unknown() -> None:
    lines = describe().splitlines()
    assert "  kind: gguf" in lines
    assert "  files.m.gguf.sha256: ab12" in lines
    assert "  tags: a, b" in lines
    assert not any("licence" in line for line in lines)


def test_recipe_shows_its_counts_in_order() -> None:
    lines = describe().splitlines()
    start = lines.index("Recipe")
    assert lines[start + 1 : start + 3] == ["  fuse_gqa        30  seconds 0.25", "  fuse_skip_norm  61"]
    assert "  no passes" in describe(dataclasses.replace(MANIFEST, recipe=[]))


def test_hashes_are_shown_when_they_were_checked() -> None:
    assert "cd34" not in describe()
    text = describe(hashes_checked=True)
    assert "sizes and SHA-256 checked" in text
    assert "cd34" in text


def test_recurrent_model_has_no_limit_of_positions() -> None:
    model = dataclasses.replace(MANIFEST.model, max_positions=None)
    assert "  positions     no limit" in describe(dataclasses.replace(MANIFEST, model=model)).splitlines()


def test_dict_is_json_and_holds_the_manifest() -> None:
    data = json.loads(json.dumps(artifact_to_dict(Artifact(folder=Path("build/x"), manifest=MANIFEST))))
    assert data["folder"] == "build/x"
    assert data["size"] == 538_000_077
    assert data["manifest"]["model"]["layers"] == 2


def test_the_models_own_settings_are_shown(tmp_path: Path) -> None:
    artifact = Artifact(folder=tmp_path, manifest=MANIFEST)
    assert "Generation settings" not in describe_artifact(artifact)
    settings = {"repetition_penalty": 1.3, "suppress_tokens": [5], "eos_token_id": 1, "temperature": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    text = describe_artifact(artifact)
    assert "Generation settings of the model" in text
    assert "  repetition_penalty: 1.3\n  suppress_tokens: [5]\n" in text
    assert "temperature" not in text
    assert artifact_to_dict(artifact)["generation_settings"] == {"repetition_penalty": 1.3, "suppress_tokens": [5]}
    (tmp_path / "generation_config.json").write_text("{")
    assert "Generation settings" not in describe_artifact(artifact)
