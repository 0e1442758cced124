from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest

from jisu.exporter.contract.signature import TensorSpec
from jisu.exporter.gate.folder import check_folder, check_signature
from jisu.exporter.packaging.folder_files import write_folder_files
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


@pytest.fixture
def copied(tiny_artifact, tmp_path):
    shutil.copytree(tiny_artifact.folder, tmp_path / "copy")
    return replace(tiny_artifact, folder=tmp_path / "copy")


def check(artifact, source):
    made = artifact.manifest
    write = partial(write_folder_files, source=source, signature=made.signature, target=made.target)
    return check_folder(artifact, source, write)


def edit(artifact, name, change):
    path = artifact.folder / name
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_the_files_of_an_export_are_the_sources(tiny_artifact, source):
    actual = check(tiny_artifact, source)
    assert actual.passed, actual.detail
    for name in ("genai_config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert name in actual.detail


def reverse_added(data):
    data["added_tokens"][0]["id"], data["added_tokens"][1]["id"] = 1, 0


def exchange_rare(data):
    vocabulary = data["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[names[0]], vocabulary[names[1]] = vocabulary[names[1]], vocabulary[names[0]]


CHANGES = {
    "genai stop token": (
        "genai_config.json",
        lambda data: data["model"].update(eos_token_id=[5]),
        "model.eos_token_id[0]",
    ),
    "genai length": ("genai_config.json", lambda data: data["search"].update(max_length=64), "search.max_length is 64"),
    "genai sampling": ("genai_config.json", lambda data: data["search"].update(temperature=3), "temperature is 3"),
    "stop token": ("generation_config.json", lambda data: data.update(eos_token_id=[5]), "eos_token_id[0] is 5"),
    "no stop token": ("generation_config.json", lambda data: data.pop("eos_token_id"), "eos_token_id is missing"),
    "temperature": ("generation_config.json", lambda data: data.update(temperature=9.0), "temperature is 9.0"),
    "merge": ("tokenizer.json", lambda data: data["model"]["merges"].pop(11), "model.merges has"),
    "merges": ("tokenizer.json", lambda data: data["model"]["merges"].reverse(), "model.merges[0]"),
    "added": ("tokenizer.json", reverse_added, "added_tokens[0].id"),
    "flag": (
        "tokenizer.json",
        lambda data: data["added_tokens"][0].update(lstrip=True),
        "added_tokens[0].lstrip is True",
    ),
    "not special": (
        "tokenizer.json",
        lambda data: data["added_tokens"][1].update(special=False),
        "added_tokens[1].special",
    ),
    "normalizer": ("tokenizer.json", lambda data: data.update(normalizer={"type": "NFKC"}), "normalizer is"),
    "splitting": ("tokenizer.json", lambda data: data["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer."),
    "decoder": ("tokenizer.json", lambda data: data.update(decoder=None), "decoder is None"),
    "vocabulary": ("tokenizer.json", exchange_rare, "model.vocab."),
    "special": ("tokenizer_config.json", lambda data: data.update(eos_token="<s>"), "eos_token is '<s>'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_entry_is_named(name, copied, source):
    file, change, words = CHANGES[name]
    edit(copied, file, change)
    actual = check(copied, source)
    assert not actual.passed
    assert file in actual.detail
    assert words in actual.detail


def test_another_template_a_missing_file_and_a_stray_one_are_named(copied, source):
    template = copied.folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if tools %}x{% endif %}")
    assert check(copied, source).detail.startswith("chat_template.jinja is another text")
    template.unlink()
    assert check(copied, source).detail.startswith("chat_template.jinja is missing")
    (copied.folder / "special_tokens_map.json").write_text("{}")
    assert (
        "special_tokens_map.json lies in the folder" in check(copied, source).detail or check(copied, source).value == 2
    )


def test_merges_may_be_written_in_either_form(copied, source):
    edit(
        copied,
        "tokenizer.json",
        lambda data: data["model"].update(merges=[" ".join(m) for m in data["model"]["merges"]]),
    )
    assert check(copied, source).passed


def test_a_signature_that_is_not_the_graphs_is_named(tiny_artifact):
    assert check_signature(tiny_artifact).passed
    signature = tiny_artifact.manifest.signature
    spec = signature.outputs[0]
    half = replace(signature, outputs=(TensorSpec(name=spec.name, dtype="float16", dims=spec.dims),))
    artifact = replace(tiny_artifact, manifest=replace(tiny_artifact.manifest, signature=half))
    actual = check_signature(artifact)
    assert not actual.passed
    assert "other outputs" in actual.detail
