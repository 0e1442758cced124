"""Sizes come from counts, headers and manifests, and a broken header is one clear sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.machine.model_size import EXPORT_RESERVE, RUN_RESERVE, measure_model


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_header(*, value_type: int = 4) -> bytes:
    """Two metadata entries (a number, an array of strings) and two tensors of 6 and 20 elements."""
    header = b"GGUF" + struct.pack("<IQQ", 3, 2, 2)
    header += gguf_string("n") + struct.pack("<II", value_type, 7)
    header += gguf_string("tokens") + struct.pack("<IIQ", 9, 8, 2) + gguf_string("a") + gguf_string("bc")
    header += gguf_string("w") + struct.pack("<IQQIQ", 2, 2, 3, 0, 0)
    return header + gguf_string("v") + struct.pack("<IQIQ", 1, 20, 0, 32)


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            **{name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()},
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(("text", "count"), [("7B", 7 * 10**9), ("135m", 135 * 10**6), ("1.5B", 15 * 10**8)])
def test_count_is_read_with_its_unit(text: str, count: int) -> None:
    size = measure_model(text)
    assert size.run_memory == 4 * count + RUN_RESERVE
    assert size.export_memory == 8 * count + EXPORT_RESERVE
    assert size.export_disk == 4 * count


def test_gguf_is_counted_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header())
    assert measure_model(str(tmp_path / "m.gguf")).export_disk == 4 * 26


def test_folder_is_counted_over_all_its_shards(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a-00001.safetensors", {"w": [2, 3], "scalar": []})
    write_safetensors(tmp_path / "a-00002.safetensors", {"v": [20]})
    assert measure_model(str(tmp_path)).export_disk == 4 * 27


@pytest.mark.parametrize("cut", [0, 3, 10, 30, 60, len(gguf_header()) - 1])
def test_truncated_gguf_is_an_input_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header()[:cut])
    with pytest.raises(InputError, match="cannot be read as a GGUF file"):
        measure_model(str(tmp_path / "m.gguf"))


def test_unknown_gguf_metadata_type_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header(value_type=99))
    with pytest.raises(InputError, match="unknown metadata type 99"):
        measure_model(str(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    "content",
    [b"", b"123", struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 8) + b'{"a": 1}'],
)
def test_broken_safetensors_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a safetensors file"):
        measure_model(str(tmp_path))


def test_folder_without_weights_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no weights"):
        measure_model(str(tmp_path))


@pytest.mark.parametrize("text", ["7", "B", "7Q", "no/such/path"])
def test_neither_path_nor_count_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="neither a path that exists nor a parameter count"):
        measure_model(text)


@pytest.mark.slow
def test_the_real_model_has_135_million_parameters(smollm2_gguf: Path) -> None:
    assert measure_model(str(smollm2_gguf)).export_disk == 4 * 134_515_008
