"""Finds the GGUF files of one model: a file, the parts that llama-gguf-split wrote, or the model in a folder.

Every part says its number and how many there are; the first has the metadata of all. A file that holds something else
than a model (an adapter, a projector, a vocabulary) is refused by its kind, with what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.gguf.header import GgufHeader, read_gguf_header

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
# What a file may be that is no model, by its general.type, and the way out.
_KINDS = {
    "adapter": ("an adapter", "Merge it into its base model: llama-export-lora writes a GGUF file of both."),
    "mmproj": ("a projector for images or sound", "Give the file of the language model that it belongs to."),
    "imatrix": ("statistics for quantizing a model", "Give the file of the model."),
    "vocab": ("a vocabulary", "Give the file of the model that it belongs to."),
}
_PROJECTOR_ARCHITECTURES = ("clip", "mmproj")


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())


def read_gguf(path: Path) -> GgufHeader:
    """Read and check the header of a model, whole or in parts, and of nothing but a model.

    Args:
        path: of the file, of any part, or of a folder with one model.

    Raises:
        InputError: a part is missing or does not belong to the others, a folder has several models, the file is of
            another kind; or see `read_gguf_header`.
    """
    if path.is_dir():
        path = _model_in(path)
    header = read_gguf_header(path)
    parts = [header] if header.fields.get(_COUNT, 1) in (0, 1) else _read_parts(header)
    first = parts[0]
    if not isinstance(first.fields.get("general.architecture"), str):
        raise InputError(
            f"{first.path} does not say what model it holds",
            received="no general.architecture",
            allowed="a complete GGUF file",
            fix="Download the file again.",
        )
    joined = replace(first, tensors=tuple(tensor for part in parts for tensor in part.tensors))
    _refuse_other_kinds(joined)
    names = [tensor.name for tensor in joined.tensors]
    expected = first.fields.get(_TENSORS, len(names)) if len(parts) > 1 else len(names)
    if len(set(names)) != len(names) or expected != len(names):
        raise InputError(
            f"The parts of {path} are not those of one model",
            received=f"{len(names)} tensors, {len(set(names))} names",
            allowed=f"{expected} tensors of different names",
            fix="Download all parts again.",
        )
    return joined


def files_of(header: GgufHeader) -> list[Path]:
    """The files that hold a model, in the order of its tensors."""
    return list(dict.fromkeys([header.path, *(tensor.path for tensor in header.tensors)]))


def _model_in(folder: Path) -> Path:
    """The file of the one model in a folder; of a model in parts, the first that is there."""
    models: dict[str, Path] = {}
    for path in gguf_files(folder):
        match = _PART.fullmatch(path.name)
        header = read_gguf_header(path)
        if match is None and _kind_of(header) is not None:
            continue
        models.setdefault(match["stem"] if match else path.name, path)
    if len(models) != 1:
        raise InputError(
            f"The folder {folder} does not hold one model",
            received=", ".join(path.name for path in models.values()) or "no GGUF file of a model",
            allowed="one GGUF file of a model, whole or in parts",
            fix="Give the file of the model by its own path.",
        )
    return next(iter(models.values()))


def _read_parts(header: GgufHeader) -> list[GgufHeader]:
    path, count = header.path, header.fields[_COUNT]
    match = _PART.fullmatch(path.name)
    if match is None or int(match["count"]) != count or header.fields.get(_NUMBER) != int(match["number"]) - 1:
        raise InputError(
            f"{path} is a part of a model, and its name does not say which",
            received=f"part {header.fields.get(_NUMBER, '?')} of {count}, counted from 0",
            allowed=f"names such as model-00001-of-{count:05}.gguf, as llama-gguf-split writes them",
            fix="Give the parts their own names again.",
        )
    places = [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [place.name for place in places if not place.is_file()]
    if missing:
        raise InputError(
            f"The model of {path} is not complete: {len(missing)} of its {count} parts are missing",
            received=f"missing: {_listed(missing)}",
            allowed=f"{count} parts in one folder",
            fix="Download the missing parts into the same folder.",
        )
    parts = [header if place == path else read_gguf_header(place) for place in places]
    strange = [
        part.path.name
        for number, part in enumerate(parts)
        if (part.fields.get(_NUMBER), part.fields.get(_COUNT)) != (number, count)
    ]
    if strange:
        raise InputError(
            f"The parts of {path} are not those of one model",
            received=f"another part than its name says: {_listed(strange)}",
            allowed=f"parts 1 to {count} of the same model",
            fix="Download these parts again.",
        )
    return parts


def _kind_of(header: GgufHeader) -> str | None:
    """What a file holds when it is no model; None for a model."""
    kind = header.fields.get("general.type", "model")
    if kind in _KINDS:
        return str(kind)
    if header.fields.get("general.architecture") in _PROJECTOR_ARCHITECTURES:
        return "mmproj"
    return None if header.tensors or header.fields.get(_COUNT, 1) > 1 else "vocab"


def _refuse_other_kinds(header: GgufHeader) -> None:
    kind = _kind_of(header)
    if kind is not None:
        held, way_out = _KINDS[kind]
        stated = header.fields.get("general.type")
        received = f"general.type {stated!r}" if stated else f"architecture {header.architecture!r}"
        raise InputError(
            f"{header.path} holds {held}, not a model",
            received=f"{received}, {len(header.tensors)} tensors",
            allowed="a GGUF file of a language model",
            fix=way_out,
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
