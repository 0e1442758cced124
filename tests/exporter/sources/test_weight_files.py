from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.weight_files import account_for_files
from tests.support.models import llama_config, random_model, write_tiny_llama

torch = pytest.importorskip("torch", reason="sources are torch models")
INDEX = "model.safetensors.index.json"


@pytest.fixture
def old_parts(tmp_path: Path) -> Path:
    random_model(llama_config(layers=1), seed=9).save_pretrained(str(tmp_path / "old"), max_shard_size="100KB")
    return tmp_path / "old"


@pytest.mark.parametrize("with_parts", [True, False])
def test_a_complete_file_goes_before_an_index_that_was_left(tmp_path: Path, old_parts: Path, with_parts: bool) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    before = load_source(folder)
    assert before.account.names("used", "file") == ["model.safetensors"]
    assert before.account.notes() == ()
    for path in old_parts.glob("model*" if with_parts else INDEX):
        path.rename(folder / path.name)
    source = load_source(folder)
    for name, weight in source.module.state_dict().items():
        assert torch.equal(weight, before.module.state_dict()[name]), name
    assert INDEX in source.account.names("unread", "file")
    assert any(INDEX in note and "model.safetensors" in note for note in source.account.notes())


def test_other_weight_files_are_told_and_left(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model", layers=1)
    names = ["consolidated.safetensors", "model-00001-of-00007.safetensors", "pytorch_model.bin", "tf_model.h5"]
    for name in [*names, "training_args.bin"]:
        (folder / name).write_bytes(b"nothing")
    assert load_source(folder).account.names("unread", "file") == names


def test_parts_of_an_index_with_a_file_of_another_count_beside(old_parts: Path) -> None:
    (old_parts / "model-00001-of-00099.safetensors").write_bytes(b"nothing")
    account = load_source(old_parts).account
    assert INDEX in account.names("used", "file")
    assert account.names("unread", "file") == ["model-00001-of-00099.safetensors"]


def test_a_tensor_that_the_index_names_and_no_file_holds_is_refused(old_parts: Path) -> None:
    index = json.loads((old_parts / INDEX).read_text())
    part = next(iter(index["weight_map"].values()))
    index["weight_map"]["model.layers.0.self_attn.q_proj.bias"] = part
    (old_parts / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"q_proj.bias .*no file holds"):
        load_source(old_parts)
    assert load_source(old_parts, ignore_weights=["*.bias"]).account.names("refused") == []


def test_tensors_that_the_index_does_not_name_are_used_and_told(old_parts: Path) -> None:
    index = json.loads((old_parts / INDEX).read_text())
    del index["weight_map"]["model.norm.weight"]
    (old_parts / INDEX).write_text(json.dumps(index))
    account = load_source(old_parts).account
    assert "model.norm.weight" in account.names("used", "tensor")
    assert any("does not name 1 of" in note for note in account.notes())


def test_pickles_have_their_own_index(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": {"a": "part.bin", "b": "part.bin"}})
    )
    account = account_for_files(Account(), tmp_path, [tmp_path / "part.bin"], ["a"], pickled=True)
    assert account.names("refused", "tensor") == ["b"]
