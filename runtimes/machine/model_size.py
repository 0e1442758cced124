"""How much memory and disk a model needs, from file sizes and headers or from a parameter count; no weight is read.

The numbers are estimates for fp32 on ``ort-cpu``: running holds the weights once plus a reserve, exporting stays below
twice the weights plus a reserve, and the artifact takes the weights once.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jisu.exporter.contract.artifact import MANIFEST, read_artifact
from jisu.exporter.contract.errors import InputError

BYTES_PER_PARAMETER = 4
RUN_RESERVE = 512 * 10**6
EXPORT_RESERVE = 10**9
COUNT = re.compile(r"(\d+(?:\.\d+)?)([KMBT])", re.IGNORECASE)
COUNT_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# GGUF metadata value types (the format's specification, gguf_metadata_value_type): type -> bytes of a fixed-size value.
GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
GGUF_STRING = 8
GGUF_ARRAY = 9
MAX_HEADER_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Bytes that a model needs. An artifact needs no more disk and is not exported again: both are None then."""

    what: str
    run_memory: int
    export_memory: int | None
    export_disk: int | None


def measure_model(model: str) -> ModelSize:
    """Size up an artifact, a GGUF file, a folder of safetensors, or a parameter count such as ``7B`` or ``135M``.

    Raises:
        InputError: it is none of these, or its header cannot be read.
    """
    path = Path(model)
    if path.is_dir() and (path / MANIFEST).exists():
        size = read_artifact(path).size
        return ModelSize(
            what=f"the artifact {model}", run_memory=size + RUN_RESERVE, export_memory=None, export_disk=None
        )
    if path.is_dir():
        return _size_of(_count_in_folder(path), what=f"the checkpoint {model} in fp32")
    if path.is_file():
        return _size_of(_count_in_gguf(path), what=f"the checkpoint {model} in fp32")
    match = COUNT.fullmatch(model)
    if match is None:
        raise InputError(
            "The model is neither a path that exists nor a parameter count",
            received=model,
            allowed="an artifact, a GGUF file, a folder with safetensors, or a count such as 135M or 7B",
            fix="Check the path.",
        )
    count = round(float(match[1]) * COUNT_UNITS[match[2].upper()])
    return _size_of(count, what=f"a model of {model} parameters in fp32")


def _size_of(parameters: int, *, what: str) -> ModelSize:
    weights = parameters * BYTES_PER_PARAMETER
    return ModelSize(
        what=what,
        run_memory=weights + RUN_RESERVE,
        export_memory=2 * weights + EXPORT_RESERVE,
        export_disk=weights,
    )


def _count_in_folder(folder: Path) -> int:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"The folder {folder} holds no weights",
            received="no *.safetensors file",
            allowed="an artifact or a Hugging Face folder with safetensors",
            fix="Check the path.",
        )
    return sum(_count_in_safetensors(path) for path in files)


def _count_in_safetensors(path: Path) -> int:
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", _read(stream, 8))
            header = json.loads(_read(stream, length))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, "a safetensors file", error) from error


def _count_in_gguf(path: Path) -> int:
    try:
        with path.open("rb") as stream:
            if _read(stream, 4) != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            _version, tensors, entries = struct.unpack("<IQQ", _read(stream, 20))
            for _ in range(entries):
                _skip_string(stream)
                _skip_value(stream, *struct.unpack("<I", _read(stream, 4)))
            return sum(_next_tensor_elements(stream) for _ in range(tensors))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, "a GGUF file", error) from error


def _next_tensor_elements(stream: BinaryIO) -> int:
    _skip_string(stream)
    (rank,) = struct.unpack("<I", _read(stream, 4))
    dims = struct.unpack(f"<{rank}Q", _read(stream, 8 * rank))
    _read(stream, 4 + 8)  # element type, offset
    return math.prod(dims)


def _skip_string(stream: BinaryIO) -> None:
    (length,) = struct.unpack("<Q", _read(stream, 8))
    _read(stream, length)


def _skip_value(stream: BinaryIO, kind: int) -> None:
    if kind == GGUF_STRING:
        _skip_string(stream)
    elif kind == GGUF_ARRAY:
        item, count = struct.unpack("<IQ", _read(stream, 12))
        if item in GGUF_SIZES:
            _read(stream, GGUF_SIZES[item] * count)
        else:
            for _ in range(count):
                _skip_value(stream, item)
    elif kind in GGUF_SIZES:
        _read(stream, GGUF_SIZES[kind])
    else:
        raise ValueError(f"unknown metadata type {kind}")


def _read(stream: BinaryIO, size: int) -> bytes:
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {size} bytes in one piece")
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("it ends within its header")
    return data


def _unreadable(path: Path, kind: str, error: Any) -> InputError:
    return InputError(
        f"{path} cannot be read as {kind}",
        received=error,
        allowed=f"a complete {kind} file",
        fix="Download or export it again.",
    )
