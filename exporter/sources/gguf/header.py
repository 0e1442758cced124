"""Reads a GGUF file's metadata and tensor table, and checks every tensor before any is read.

Layout (GGUF specification, versions 2 and 3, little-endian): magic, version u32, tensor count u64, entry count u64,
entries (key, type u32, value), tensors (name, dim count u32, dims u64 fastest first, type u32, offset u64), padding to
the alignment, data. Strings are a u64 length and UTF-8 bytes; arrays an element type u32, a count u64 and the elements.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.kinds import GGUF_MAGIC
from jisu.exporter.sources.reason import reason_of

_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
_TOKENIZER = "tokenizer."


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """One stored tensor: dims in torch's order, ggml type id and name, and the byte range within its file."""

    name: str
    path: Path
    shape: tuple[int, ...]
    type_id: int
    type_name: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says before its data.

    ``fields`` holds strings, numbers and arrays of numbers as tuples; the arrays of a tokenizer, and those of strings,
    are represented by their lengths (`read_array` reads them).
    """

    path: Path
    version: int
    fields: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    positions: Mapping[str, int]

    @property
    def architecture(self) -> str:
        return str(self.fields["general.architecture"])


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check a GGUF file up to its data.

    Raises:
        InputError: the file is truncated, no GGUF file, of another version or byte order, or holds tensors of a type
            that the installed gguf package cannot dequantize.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read",
            received=error.strerror or error,
            allowed="a file that may be read",
            fix="Check the path and its permissions.",
        ) from error
    except (struct.error, EOFError, ValueError, OverflowError, MemoryError) as error:
        # An empty file cannot be mapped (ValueError); a count made of garbage runs over the end (struct.error).
        raise _damaged(path, f"{path.stat().st_size} bytes that end or break off within the header") from error


def _read(path: Path, data: mmap.mmap) -> GgufHeader:
    if data[:4] != GGUF_MAGIC:
        raise InputError(
            f"{path} is not a GGUF file",
            received=f"the first bytes {data[:4]!r}",
            allowed=repr(GGUF_MAGIC),
            fix="Check the path.",
        )
    version, tensor_count, entry_count = struct.unpack_from("<IQQ", data, 4)
    if version not in _VERSIONS:
        big_endian = version & 0xFFFF == 0
        raise InputError(
            f"{path} is a GGUF file that cannot be read here",
            received="big-endian byte order" if big_endian else f"version {version}",
            allowed=f"little-endian files of version {' or '.join(map(str, _VERSIONS))}",
            fix="Turn its bytes with gguf-convert-endian of the gguf package."
            if big_endian
            else "Convert the model with a current converter.",
        )
    cursor = _Cursor(data, 24)
    fields: dict[str, Any] = {}
    positions: dict[str, int] = {}
    for _ in range(entry_count):
        key = cursor.string()
        (kind,) = cursor.numbers("I")
        value_start = cursor.position
        if key in fields:
            raise _damaged(path, f"{key} twice")
        positions[key] = value_start
        fields[key] = cursor.value(kind, arrays=not key.startswith(_TOKENIZER))
    table = []
    for _ in range(tensor_count):
        name = cursor.string()
        (dim_count,) = cursor.numbers("I")
        dims = cursor.numbers("Q", dim_count)
        table.append((name, tuple(reversed(dims)), *cursor.numbers("I"), *cursor.numbers("Q")))
    alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise _damaged(path, f"an alignment of {alignment!r}, which is no power of two")
    start = -(-cursor.position // alignment) * alignment
    if not isinstance(fields.get("general.architecture"), str) and "split.count" not in fields:
        raise _damaged(path, "no general.architecture")
    tensors = tuple(_tensor(path, name, shape, type_id, start + offset) for name, shape, type_id, offset in table)
    _check_extent(path, tensors, len(data))
    _check_order(path, tensors, start=start, alignment=alignment)
    return GgufHeader(path=path, version=version, fields=fields, tensors=tensors, positions=positions)


def read_array(header: GgufHeader, key: str) -> tuple[Any, ...] | None:
    """All elements of an array of the metadata; None where the file has none by this key.

    Raises:
        InputError: the key holds a single value, or text that is not UTF-8.
    """
    if key not in header.positions:
        return None
    try:
        with header.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(data, header.positions[key])
            if not isinstance(header.fields[key], (int, tuple)):
                raise ValueError
            return cursor.array()
    except (OSError, struct.error, EOFError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(header.path, f"{key}, which is no array that can be read ({reason_of(error)})") from error


class _Cursor:
    """A position in the file that moves on as values are read; reading past the end raises."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self.data = data
        self.position = position

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{code}") * count
        if self.position + size > len(self.data):
            raise EOFError
        values = struct.unpack_from(f"<{count}{code}", self.data, self.position)
        self.position += size
        return values

    def string(self) -> str:
        (length,) = self.numbers("Q")
        end = self.position + length
        if end > len(self.data):
            raise EOFError
        text = self.data[self.position : end].decode("utf-8")
        self.position = end
        return text

    def value(self, kind: int, *, arrays: bool) -> Any:
        """One value; of an array the numbers, or only its length."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.numbers(_SCALARS[kind])[0] if kind in _SCALARS else self._unknown(kind)
        (element,) = self.numbers("I")
        (count,) = self.numbers("Q")
        if element in _SCALARS and arrays:
            return self.numbers(_SCALARS[element], count)
        if element in _SCALARS:
            self.skip(struct.calcsize(f"<{_SCALARS[element]}") * count)
        elif element == _STRING:
            self._skip_strings(count)
        else:
            self._unknown(element)
        return count

    def array(self) -> tuple[Any, ...]:
        """The elements of an array, strings included, from its element type on."""
        (element,) = self.numbers("I")
        (count,) = self.numbers("Q")
        if element == _STRING:
            return tuple(self.string() for _ in range(count))
        return self.numbers(_SCALARS[element], count) if element in _SCALARS else self._unknown(element)

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self.data):
            raise EOFError

    def _skip_strings(self, count: int) -> None:
        position, read = self.position, struct.Struct("<Q").unpack_from
        for _ in range(count):
            position += 8 + read(self.data, position)[0]
        self.position = position
        self.skip(0)

    def _unknown(self, kind: int) -> Any:
        raise ValueError(f"metadata of type {kind}")


def _tensor(path: Path, name: str, shape: tuple[int, ...], type_id: int, offset: int) -> GgufTensor:
    import gguf

    known = {one.value: one for one in gguf.GGMLQuantizationType}
    kind = known.get(type_id)
    if kind is None or not can_dequantize(type_id):
        raise InputError(
            f"{path} stores {name} in a type that cannot be read",
            received=f"ggml type {type_id}{'' if kind is None else f' ({kind.name})'}",
            allowed=", ".join(one.name for one in gguf.GGMLQuantizationType if can_dequantize(one.value)),
            fix="Update the gguf package, or convert the model to one of these types.",
        )
    block, size = gguf.GGML_QUANT_SIZES[kind]
    elements = prod(shape)
    if not shape or shape[-1] % block:
        raise _damaged(path, f"{name} with dims {list(shape)}, which {kind.name} blocks of {block} do not divide")
    return GgufTensor(
        name=name,
        path=path,
        shape=shape,
        type_id=type_id,
        type_name=kind.name,
        offset=offset,
        size=elements // block * size,
    )


def can_dequantize(type_id: int) -> bool:
    """Whether the installed gguf package turns this ggml type into float32; asked of it with one empty block."""
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType(type_id)
    _, size = gguf.GGML_QUANT_SIZES[kind]
    try:
        with np.errstate(all="ignore"):
            return bool(gguf.dequantize(np.zeros((1, size), np.uint8), kind).dtype == np.float32)
    except NotImplementedError:
        return False


def _check_extent(path: Path, tensors: tuple[GgufTensor, ...], size: int) -> None:
    cut = [tensor.name for tensor in tensors if tensor.offset + tensor.size > size]
    if cut:
        end = max(tensor.offset + tensor.size for tensor in tensors)
        raise _damaged(path, f"{size} bytes of at least {end}; {len(cut)} of {len(tensors)} tensors are cut off")
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise _damaged(path, "two tensors of the same name")


def _check_order(path: Path, tensors: tuple[GgufTensor, ...], *, start: int, alignment: int) -> None:
    """Tensors lie one behind the other, each at the next multiple of the alignment: what does not was changed later."""
    place = start
    for tensor in tensors:
        if tensor.offset != place:
            raise _damaged(path, f"{tensor.name} at byte {tensor.offset} instead of {place}")
        place += -(-tensor.size // alignment) * alignment


def _damaged(path: Path, received: str) -> InputError:
    return InputError(
        f"{path} is truncated or damaged",
        received=received,
        allowed="a complete GGUF file",
        fix="Download the file again.",
    )
