"""A model in parts is one model whichever part is given; files of other kinds are refused by their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.gguf.parts import files_of, read_gguf
from tests.support.gguf_models import family_model, write_family

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")


def _split(whole: Path, stem: str, *, count: int = 3, first: int = 0) -> list[Path]:
    """The parts of a file, as llama-gguf-split writes them: the metadata in the first, tensors in order."""
    reader = gguf.GGUFReader(str(whole))
    share = -(-len(reader.tensors) // count)
    paths = []
    for part in range(count):
        path = whole.with_name(f"{stem}-{part + 1:05}-of-{count:05}.gguf")
        writer = gguf.GGUFWriter(str(path), "starcoder2")
        writer.add_uint16("split.no", part + first)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        if part == 0:
            for key, field in reader.fields.items():
                if key.startswith("starcoder2."):
                    writer.add_key_value(key, field.contents(), field.types[0])
        else:
            writer.kv_data[0].pop("general.architecture")
        for tensor in reader.tensors[part * share : (part + 1) * share]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_family(tmp_path / "whole.gguf", "starcoder2", family_model("starcoder2"))


def test_any_part_and_the_folder_give_the_whole_model(whole: Path) -> None:
    import torch

    expected = load_source(whole).module.state_dict()
    parts = _split(whole, "model")
    whole.unlink()
    for path in (parts[0], parts[2], whole.parent):
        source = load_source(path)
        assert all(torch.equal(value, expected[name]) for name, value in source.module.state_dict().items())
        assert list(source.provenance["files"]) == [part.name for part in parts]
    assert files_of(read_gguf(parts[1])) == parts


def test_a_missing_part_is_named(whole: Path) -> None:
    parts = _split(whole, "model")
    parts[1].unlink()
    with pytest.raises(InputError, match=r"1 of its 3 parts are missing.*model-00002-of-00003.gguf"):
        read_gguf(parts[2])


def test_parts_of_another_model_or_name_are_refused(whole: Path) -> None:
    parts = _split(whole, "model")
    with pytest.raises(InputError, match="name does not say which"):
        read_gguf(parts[0].rename(whole.with_name("renamed.gguf")))
    parts = _split(whole, "model")
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(InputError, match=r"another part than its name says: model-00003"):
        read_gguf(parts[0])


def test_parts_that_lack_tensors_are_refused(whole: Path) -> None:
    parts = _split(whole, "model", count=2)
    other = write_family(whole.with_name("other.gguf"), "starcoder2", family_model("starcoder2", num_hidden_layers=1))
    parts[1].write_bytes(_split(other, "second", count=2)[1].read_bytes())
    with pytest.raises(InputError, match="not those of one model"):
        read_gguf(parts[0])


def test_a_folder_of_several_models_is_ambiguous(whole: Path) -> None:
    write_family(whole.with_name("second.gguf"), "starcoder2", family_model("starcoder2"))
    with pytest.raises(InputError, match=r"does not hold one model. Received: second.gguf, whole.gguf"):
        load_source(whole.parent)


@pytest.mark.parametrize(
    ("architecture", "settings", "said"),
    [
        ("llama", {"general.type": "adapter", "adapter.type": "lora"}, "holds an adapter.*llama-export-lora"),
        ("clip", {"clip.has_vision_encoder": True}, "holds a projector.*language model that it belongs to"),
        ("llama", {"general.type": "mmproj"}, "holds a projector"),
        ("llama", {"general.type": "imatrix"}, "holds statistics"),
    ],
)
def test_what_is_no_model_is_refused_by_its_kind(
    architecture: str, settings: dict[str, Any], said: str, whole: Path
) -> None:
    import numpy as np

    path = _other(whole.with_name("other.gguf"), architecture, settings, np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match=said):
        load_source(path)
    # Beside a model they are passed over.
    assert read_gguf(whole.parent).path == whole


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds a vocabulary.*0 tensors"):
        load_source(_other(tmp_path / "vocab.gguf", "llama", {"tokenizer.ggml.model": "llama"}, None))


def _other(path: Path, architecture: str, settings: dict[str, Any], values: Any) -> Path:
    writer = gguf.GGUFWriter(str(path), architecture)
    for key, value in settings.items():
        (writer.add_bool if isinstance(value, bool) else writer.add_string)(key, value)
    if values is not None:
        writer.add_tensor("blk.0.attn_q.weight.lora_a", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
