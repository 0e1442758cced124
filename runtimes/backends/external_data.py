"""Where an ONNX file says its weights are, read without the onnx package, so that no path can leave the folder.

Walks the file's protocol-buffer fields (onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto,
field numbers as published there) and reads nothing but external-data entries.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.hub_links import lies_in, names_a_place_inside
from jisu.exporter.contract.placeholders import refuse_placeholder

# Message -> field number -> message found there. Fields that are not listed are stepped over.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_external_data(graph: Path) -> None:
    """Raise InputError when weights of ``graph`` lie outside its folder or are missing, or the file is truncated."""
    folder = graph.parent
    refuse_placeholder(graph)
    for location in sorted(external_locations(graph)):
        if "\0" in location:
            raise InputError(
                f"{graph} keeps weights in a file that cannot exist",
                received=repr(location),
                allowed=f"files below {graph.parent}",
                fix="Do not use this artifact; export the model again.",
            )
        target = folder / location
        # A path with ``..`` may go nowhere else today; where links lead is another matter.
        if not names_a_place_inside(location) or not lies_in(target, folder):
            raise InputError(
                f"{graph} keeps weights outside its folder",
                received=location,
                allowed=f"files below {graph.parent}",
                fix="Do not use this artifact; export the model again.",
            )
        refuse_placeholder(target)
        if not target.is_file():
            raise InputError(
                f"{graph} needs a weight file that is missing",
                received=location,
                allowed=f"a file below {graph.parent}",
                fix="Restore the file or export the model again.",
            )
        # ONNX Runtime follows a link to weights only when they lie where the graph itself really lies.
        if not target.resolve().is_relative_to(graph.resolve().parent):
            raise InputError(
                f"{graph} and its weights really lie in two folders, which ONNX Runtime does not open",
                received=f"{location} is a link into {target.resolve().parent}",
                allowed="links for both into one folder, or for none",
                fix="Copy the artifact with `cp -rL`, which makes files of links.",
            )


def external_locations(graph: Path) -> set[str]:
    """The ``location`` of every external tensor of an ONNX file; raises InputError when the file is truncated."""
    try:
        with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_locations(data, "model", 0, len(data)))
    except (IndexError, ValueError, OSError) as error:
        raise InputError(
            f"{graph} is not a complete ONNX file",
            received=error,
            allowed="the file as the export wrote it",
            fix="Restore the file or export the model again.",
        ) from error


def _locations(data: mmap.mmap, message: str, start: int, end: int) -> Iterator[str]:
    for field, first, last in _fields(data, start, end):
        inner = _FIELDS[message].get(field)
        if inner == "entry":
            entry = {number: data[a:b] for number, a, b in _fields(data, first, last)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8")
        elif inner is not None:
            yield from _locations(data, inner, first, last)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last offset of each length-delimited field of the message in ``data[start:end]``."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError(f"a field at byte {at} is longer than the file")
            yield tag >> 3, at, at + size
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {at}")
    if at != end:
        raise ValueError(f"the message that ends at byte {end} is cut off")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {at} is too long")
