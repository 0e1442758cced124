from __future__ import annotations

import struct
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.gguf.header import read_array, read_gguf_header
from tests.support.models import write_tiny_gguf

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "model.gguf", layers=1)


def _file(
    path: Path, *, entries: bytes = b"", entry_count: int = 0, tensors: bytes = b"", tensor_count: int = 0
) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensor_count, entry_count) + entries + tensors)
    return path


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


_ARCHITECTURE = _string("general.architecture") + struct.pack("<I", 8) + _string("llama")


def test_it_agrees_with_the_gguf_package(path: Path) -> None:
    header = read_gguf_header(path)
    reference = gguf.GGUFReader(str(path))
    assert header.architecture == "llama"
    assert header.fields["llama.context_length"] == 512
    assert header.fields["tokenizer.ggml.tokens"] == 384
    actual = [(one.name, one.shape, one.type_id, one.offset, one.size) for one in header.tensors]
    assert actual == [
        (one.name, tuple(int(dim) for dim in reversed(one.shape)), int(one.tensor_type), one.data_offset, one.n_bytes)
        for one in reference.tensors
    ]


def test_arrays_of_numbers_are_read_and_a_tokenizer_s_on_request(path: Path, tmp_path: Path) -> None:
    header = read_gguf_header(path)
    assert read_array(header, "tokenizer.ggml.token_type")[:4] == (3, 3, 3, 1)
    assert len(read_array(header, "tokenizer.ggml.tokens")) == 384
    assert read_array(header, "tokenizer.ggml.scores") is None
    with pytest.raises(InputError, match=r"chat_template, which is no array"):
        read_array(header, "tokenizer.chat_template")


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    content = path.read_bytes()
    start = min(tensor.offset for tensor in read_gguf_header(path).tensors)
    for kept in [0, 3, 4, 20, 24, 30, 100, *range(200, start, 997), start, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"truncated or damaged|not a GGUF file"):
            read_gguf_header(path)


def test_a_cut_in_the_data_says_how_much_is_missing(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"\d+ of 11 tensors are cut off"):
        read_gguf_header(path)


def test_garbage_in_the_header_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[24:32] = b"\xff" * 8  # the length of the first key
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_gguf_header(path)


def test_an_impossible_count_is_refused_at_once(tmp_path: Path) -> None:
    entry = _string("a") + struct.pack("<IIQ", 9, 4, 1 << 62)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_gguf_header(_file(tmp_path / "a.gguf", entries=entry, entry_count=1))


def test_an_unknown_metadata_type_is_refused(tmp_path: Path) -> None:
    entry = _string("a") + struct.pack("<I", 99)
    with pytest.raises(InputError, match="truncated or damaged"):
        read_gguf_header(_file(tmp_path / "a.gguf", entries=entry, entry_count=1))


@pytest.mark.parametrize(("type_id", "name"), [(4242, "4242"), (27, "I64")])
def test_a_tensor_type_that_cannot_be_dequantized_is_refused(type_id: int, name: str, tmp_path: Path) -> None:
    tensor = _string("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 4, type_id, 0)
    path = _file(tmp_path / "a.gguf", entries=_ARCHITECTURE, entry_count=1, tensors=tensor, tensor_count=1)
    with pytest.raises(InputError, match=rf"token_embd.weight in a type that cannot be read.*{name}.*Q4_1"):
        read_gguf_header(path)


def test_rows_that_blocks_do_not_divide_are_refused(tmp_path: Path) -> None:
    tensor = _string("token_embd.weight") + struct.pack("<IQQIQ", 2, 33, 4, gguf.GGMLQuantizationType.Q4_0, 0)
    path = _file(tmp_path / "a.gguf", entries=_ARCHITECTURE, entry_count=1, tensors=tensor, tensor_count=1)
    with pytest.raises(InputError, match="do not divide"):
        read_gguf_header(path)


@pytest.mark.parametrize(("version", "words"), [(1, "version 1"), (9, "version 9"), (3 << 24, "big-endian")])
def test_other_versions_and_byte_orders_are_refused(version: int, words: str, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", version)
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_gguf_header(path)


def test_a_file_without_an_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no general\.architecture"):
        read_gguf_header(_file(tmp_path / "a.gguf"))


def test_a_tensor_that_was_moved_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = min(tensor.offset for tensor in read_gguf_header(path).tensors)
    name = b"blk.0.attn_v.weight"
    place = content.index(name, 0, start) + len(name) + 4 + 2 * 8 + 4
    content[place : place + 8] = struct.pack("<Q", struct.unpack_from("<Q", content, place)[0] - 64)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"blk.0.attn_v.weight at byte \d+ instead of"):
        read_gguf_header(path)


def test_a_big_endian_file_says_how_to_turn_it(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack(">I", 3)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"big-endian byte order.*gguf-convert-endian"):
        read_gguf_header(path)
