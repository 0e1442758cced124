from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from jisu.benchmarks.studies.whisper_checkpoint import read_ctranslate2, renamed


def text(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def write(path: Path, tensors: dict[str, np.ndarray], *, version: int = 6, kind: int = 4) -> Path:
    content = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, array in tensors.items():
        content += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        content += struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    path.write_bytes(content + struct.pack("<I", 0))
    return path


def test_tensors_are_read_by_name(tmp_path: Path) -> None:
    tensors = {"a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.float16(4) * np.ones((), np.float16)}
    stored = read_ctranslate2(write(tmp_path / "model.bin", tensors))
    assert {name: array.tolist() for name, array in stored.items()} == {
        "a/weight": [[0, 1, 2], [3, 4, 5]],
        "b": 4.0,
    }


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version 2"):
        read_ctranslate2(write(tmp_path / "old.bin", {}, version=2))
    with pytest.raises(ValueError, match="dtype number 9"):
        read_ctranslate2(write(tmp_path / "other.bin", {"a": np.zeros(2, np.float16)}, kind=9))


def test_fused_projections_are_split_and_keys_have_no_bias() -> None:
    stored = {}
    for side in ("encoder", "decoder"):
        stored[f"{side}/position_encodings/encodings"] = np.zeros((4, 2))
        stored |= {f"{side}/layer_norm/{leaf}": np.zeros(2) for leaf in ("gamma", "beta")}
        stored[f"{side}/layer_0/self_attention/linear_0/weight"] = np.arange(12).reshape(6, 2)
        stored[f"{side}/layer_0/self_attention/linear_0/bias"] = np.arange(6)
    stored["decoder/embeddings/weight"] = np.zeros((5, 2))
    stored["decoder/layer_0/attention/linear_1/bias"] = np.arange(4)
    weights = renamed(stored)
    prefix = "model.decoder.layers.0"
    assert weights[f"{prefix}.self_attn.k_proj.weight"].tolist() == [[4, 5], [6, 7]]
    assert weights[f"{prefix}.self_attn.v_proj.bias"].tolist() == [4, 5]
    assert weights[f"{prefix}.encoder_attn.v_proj.bias"].tolist() == [2, 3]
    assert not any(name.endswith("k_proj.bias") for name in weights)
