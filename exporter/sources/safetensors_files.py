"""Finds the weight files of a folder and reads their tables of contents without reading a weight.

A safetensors file is an 8-byte little-endian header length, that many bytes of JSON with each tensor's dtype, shape and
byte range, and the data (format description of the safetensors project).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.jsonfile import read_json

_LARGEST_HEADER = 100_000_000  # bytes; the safetensors package refuses longer ones as well
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<ending>\.\w+)")
# Weights in formats that are not read.
_OTHER_FORMATS = (".gguf", ".ggml", ".h5", ".msgpack", ".ot", ".npz")
_INDEXES = (".safetensors.index.json", ".bin.index.json")
# What trainers leave beside the weights.
_NO_WEIGHTS = (
    "adapter_model.bin",
    "adapter_model.safetensors",
    "optimizer.bin",
    "optimizer.pt",
    "scheduler.bin",
    "scheduler.pt",
    "training_args.bin",
)


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor, ``start`` bytes from the beginning of a safetensors file; ``dtype`` is spelled as there: ``BF16``."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def find_safetensors(folder: Path) -> list[Path]:
    """The safetensors files that make up the model; empty when there are none.

    ``model.safetensors`` if it is there, or the files of the index, or the only file.

    Raises:
        InputError: the index is damaged or names a file that is missing or outside the folder, or several files lie
            there without an index.
    """
    return _find_weights(folder, "model.safetensors", (".safetensors",))


def find_pickles(folder: Path) -> list[Path]:
    """The pickle files that make up the model, by the same rules."""
    return _find_weights(folder, "pytorch_model.bin", PICKLE_SUFFIXES)


def read_tables(files: list[Path]) -> dict[str, StoredTensor]:
    """The tables of contents of all files, by tensor name.

    Raises:
        InputError: a file is truncated or no safetensors file, or two files hold the same tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in _read_table(file).items():
            if name in tensors:
                raise InputError(
                    f"The weight {name} is stored twice",
                    received=f"{tensors[name].file.name} and {file.name}",
                    allowed="each weight in one file",
                    fix="Remove the files that do not belong to the model.",
                )
            tensors[name] = tensor
    return tensors


def read_index(folder: Path, *, pickled: bool = False) -> dict[str, str]:
    """The file of each weight as the index of a folder names it; empty without an index."""
    index = folder / ("pytorch_model.bin.index.json" if pickled else "model.safetensors.index.json")
    table = read_json(index).get("weight_map") if index.is_file() else None
    return {str(name): str(file) for name, file in table.items()} if isinstance(table, dict) else {}


def weight_files_beside(folder: Path, used: Iterable[Path]) -> list[str]:
    """Names of the files with weights, and of the indexes of some, that are none of the model's."""
    known = {path.name for path in used}
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in known
        and path.name not in _NO_WEIGHTS
        and (path.suffix in (".safetensors", *PICKLE_SUFFIXES, *_OTHER_FORMATS) or path.name.endswith(_INDEXES))
    )


def _find_weights(folder: Path, single: str, suffixes: tuple[str, ...]) -> list[Path]:
    index = folder / f"{single}.index.json"
    for path in (index, folder / single):
        refuse_placeholder(path)
    # As transformers does: a complete file goes before an index, which may be left over from an earlier download.
    if (folder / single).is_file():
        return [folder / single]
    if index.is_file():
        return _indexed(index)
    named = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name not in _NO_WEIGHTS]
    for path in named:
        refuse_placeholder(path)
    files = sorted(path for path in named if path.is_file())
    numbered = bool(files) and _is_numbered(files, folder)
    if len(files) > 1 and not numbered:
        raise InputError(
            f"{folder} holds several weight files without an index",
            received=", ".join(file.name for file in files[:5]),
            allowed=f"{single}, or several files with {index.name}",
            fix=f"Add {index.name} or keep only the model's own file.",
        )
    return files


def _is_numbered(files: list[Path], folder: Path) -> bool:
    """Whether the files are all parts of one model by their names, such as model-00001-of-00002.safetensors.

    Raises:
        InputError: some of the parts are missing.
    """
    matches = [_PART.fullmatch(file.name) for file in files]
    sets = {(match["stem"], int(match["count"]), match["ending"]) for match in matches if match}
    if None in matches or len(sets) != 1:
        return False
    stem, count, ending = sets.pop()
    numbers = {int(match["number"]) for match in matches if match}
    missing = [f"{stem}-{number:05}-of-{count:05}{ending}" for number in range(1, count + 1) if number not in numbers]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of the {count} parts of its weights",
            received=f"no {', '.join(missing[:5])}",
            allowed="all parts",
            fix="Download the missing files.",
        )
    return True


def _indexed(index: Path) -> list[Path]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise InputError(
            f"{index} has no usable weight_map",
            received="no weight_map, or one that names no files",
            allowed="an object that names a file for each weight",
            fix="Download the checkpoint again.",
        )
    names = sorted(set(table.values()))
    strays = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if strays:
        raise InputError(
            f"{index} names a file outside its folder",
            received=strays[0],
            allowed="plain file names",
            fix="Do not use this checkpoint; it may be malicious.",
        )
    for name in names:
        refuse_placeholder(index.parent / name)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{index.parent} lacks {len(missing)} of the {len(names)} files that {index.name} names",
            received=f"no {', '.join(missing[:5])}",
            allowed="all files of the index",
            fix="Download the missing files.",
        )
    return [index.parent / name for name in names]


def _read_table(file: Path) -> dict[str, StoredTensor]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size + 1
        if length > _LARGEST_HEADER and length + 8 <= size:
            raise _damaged(file, f"a header of {length} bytes")
        if length + 8 > size:
            raise _damaged(file, f"{size} bytes, too few for its header")
        text = stream.read(length)
    try:
        entries: dict[str, Any] = json.loads(text, object_pairs_hook=_without_repeats)
        entries.pop("__metadata__", None)
        tensors = {
            name: StoredTensor(
                file=file,
                dtype=str(entry["dtype"]),
                shape=tuple(int(dim) for dim in entry["shape"]),
                start=8 + length + int(entry["data_offsets"][0]),
            )
            for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, f"an unreadable header ({error})") from error
    if 8 + length + end != size:
        raise _damaged(file, f"{size} bytes where its header describes {8 + length + end}")
    return tensors


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary; of a name that comes twice a reader would have to choose one."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is listed twice")
    return content


def _damaged(file: Path, received: str) -> InputError:
    return InputError(
        f"{file} is truncated or not a safetensors file",
        received=received,
        allowed="a complete safetensors file",
        fix="Download the file again.",
    )
