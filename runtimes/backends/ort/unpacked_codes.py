"""Codes that a file holds in planes of bits, put together before the runtime opens the graph.

The graph says by operators on constants how it is done (`exporter.contract.code_planes`), and ONNX Runtime would fold
them: nine copies of every code lie in memory until all are folded. Put together here there is one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.code_planes import PLANES, UNPACKS, join_planes, plane_width

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Where the runtime looks for the weights of a graph that is handed over in memory.
WEIGHTS_IN = "session.model_external_initializers_file_folder_path"
# A file that is not there: what it would hold is handed over.
_LOCATION = "unpacked"
_ALIGNMENT = 64
_GIVEN_BACK_SECONDS = 0.1
# onnx.proto: TensorProto.DataType and TensorProto.DataLocation.
_UINT8, _EXTERNAL = 2, 1


class Room:
    """Memory for codes, in a file without a name where the disk has room for it, so that it can be given back.

    A session reads codes from here as long as it lives, without a copy of its own; those that it has packed in its own
    way it never reads again.
    """

    def __init__(self, size: int) -> None:
        mapped = _map_file(size)
        self._in_file = mapped is not None
        self._map = mmap.mmap(-1, max(1, size)) if mapped is None else mapped
        self._used = 0

    def take(self, rows: int, features: int) -> npt.NDArray[np.uint8]:
        """Zeros, uint8 [rows, features]."""
        import numpy as np

        start, self._used = self._used, self._used + _aligned(rows * features)
        return np.frombuffer(self._map, np.uint8, count=rows * features, offset=start).reshape(rows, features)

    def give_back(self) -> None:
        """Leave in the file alone what nobody reads now; what is not in one stays."""
        if self._in_file and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    @contextlib.contextmanager
    def given_back(self) -> Iterator[None]:
        """Give back again and again while somebody else reads, as a session that opens reads all codes once."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_GIVEN_BACK_SECONDS):
                self.give_back()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.give_back()


def read_unpacked(graph: Path, options: Any) -> tuple[bytes, Room] | None:
    """A graph file whose codes have been put together and handed to a session's options, and where they lie.

    None where it has no planes; without the onnx package there is nothing to change it with, and the runtime folds
    them.

    Args:
        options: of the session that the bytes are then opened in. It must not outlive the room.
    """
    data = graph.read_bytes()
    if UNPACKS.encode() not in data:
        return None
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.ModelProto.FromString(data)
    room = unpack_codes(model, graph.parent, options)
    if room is not None:
        # As when the runtime opens the file itself, links are followed to where the graph really lies.
        real = graph.resolve().parent
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location" and entry.value != _LOCATION:
                    entry.value = (graph.parent / entry.value).resolve().relative_to(real).as_posix()
        options.add_session_config_entry(WEIGHTS_IN, str(real))
    return None if room is None else (model.SerializeToString(), room)


def unpack_codes(model: Any, folder: Path, options: Any) -> Room | None:
    """Put the codes of a graph together, in place, and hand them to a session's options; None where it has none.

    Args:
        model: `onnx.ModelProto`; its weights lie in files of ``folder``.
        options: of the session that the model is then opened in, with `WEIGHTS_IN`.

    Returns:
        Where they lie: it has to live as long as the session.
    """
    import numpy as np

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    packed: list[tuple[str, int, dict[int, Any]]] = []
    replaced: set[str] = set()
    for node in graph.node:
        bits = next((entry.value for entry in node.metadata_props if entry.key == UNPACKS), None)
        if bits is None:
            continue
        chain = list(_chain(node, makers))
        names = [name for part in chain for name in part.input if name in constants]
        planes = {width: constants[name] for name in names if (width := plane_width(name)) is not None}
        if all(_is_stored(plane) for plane in planes.values()):
            _check_planes(node.output[0], bits, planes)
            packed.append((node.output[0], int(bits), planes))
            replaced.update(part.output[0] for part in chain)
    if not packed:
        return None
    sizes = [_codes_of(planes) for _, _, planes in packed]
    room = Room(sum(_aligned(rows * features) for rows, features in sizes))
    joined: dict[str, npt.NDArray[np.uint8]] = {}
    for (name, bits, planes), (rows, features) in zip(packed, sizes, strict=True):
        parts = {width: _read(plane, folder) for width, plane in planes.items()}
        joined[name] = join_planes(parts, bits=bits, out=room.take(rows, features))
        room.give_back()
    codes: dict[str, npt.NDArray[np.uint8]] = {}
    for node in graph.node:
        source = joined.get(node.input[0]) if node.input else None
        if node.op_type == "Reshape" and source is not None:
            (*_, width) = np.frombuffer(constants[node.input[1]].raw_data, np.int64)
            codes[node.output[0]] = source.reshape(len(source), -1, width)
            replaced.add(node.output[0])
    kept = [node for node in graph.node if node.output[0] not in replaced]
    read = {name for node in kept for name in node.input}
    codes |= {name: value for name, value in joined.items() if name in read}
    # What only these operators read; subgraphs and outputs may read others.
    gone = {name for node in graph.node if node.output[0] in replaced for name in node.input} - read
    still_stored = [tensor for tensor in graph.initializer if tensor.name not in gone]
    _set(graph.node, kept)
    _set(graph.initializer, still_stored)
    for name, value in codes.items():
        _declare(graph.initializer.add(), name, value)
    options.add_external_initializers(
        list(codes), [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in codes.values()]
    )
    return room


def hold_room(session: Any, room: Room) -> None:
    """Let what a session reads live as long as it does."""
    session.jisu_codes = room


def _map_file(size: int) -> mmap.mmap | None:
    """A file without a name, mapped; None where there is no room for one, or no way to know."""
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is None:
        return None
    with contextlib.suppress(OSError), tempfile.TemporaryFile(prefix="jisu-") as file:
        # A page that the disk has no room for would end the process when it is written.
        reserve(file.fileno(), 0, max(1, size))
        return mmap.mmap(file.fileno(), max(1, size))
    return None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _check_planes(name: str, bits: str, planes: dict[int, Any]) -> None:
    """Raise ValueError for planes that codes of so many bits are not made of."""
    needed = PLANES.get(int(bits) if bits.isdecimal() else 0, ())
    if not needed or set(planes) != set(needed):
        have = ", ".join(map(str, sorted(planes, reverse=True))) or "no"
        raise ValueError(f"{name} has planes of {have} bits, and says that it has codes of {bits}")


def _codes_of(planes: dict[int, Any]) -> tuple[int, int]:
    """(rows, features) of the codes that planes make."""
    width, plane = next(iter(planes.items()))
    rows, *others = plane.dims
    size = 1
    for one in others:
        size *= one
    return int(rows), int(size) * 8 // width


def _chain(node: Any, makers: dict[str, Any]) -> Iterator[Any]:
    """The operators that a value is made by, the last one first; each once."""
    seen, stack = set(), [node]
    while stack:
        current = stack.pop()
        if current.output[0] in seen:
            continue
        seen.add(current.output[0])
        yield current
        stack.extend(makers[name] for name in current.input if name in makers)


def _is_stored(tensor: Any) -> bool:
    """Whether a constant lies in a file of its own; small ones stand in the graph, and the runtime folds them."""
    return bool(tensor.external_data) and tensor.data_location == _EXTERNAL


def _read(tensor: Any, folder: Path) -> npt.NDArray[np.uint8]:
    """A plane, uint8 [rows, bytes]."""
    import numpy as np

    place = {entry.key: entry.value for entry in tensor.external_data}
    rows, *others = tensor.dims
    count = int(rows * np.prod(others))
    if count < 1 or int(place.get("length", count)) != count:
        raise ValueError(f"{tensor.name} has the shape {list(tensor.dims)} and {place.get('length')} bytes")
    values = np.fromfile(folder / place["location"], np.uint8, count=count, offset=int(place.get("offset", 0)))
    if len(values) != count:
        raise ValueError(f"{place['location']} ends before {tensor.name} does: {len(values)} of {count} bytes")
    return values.reshape(rows, -1)


def _declare(tensor: Any, name: str, value: npt.NDArray[np.uint8]) -> None:
    """Make a constant that will be handed over of an empty one."""
    tensor.name, tensor.data_type, tensor.data_location = name, _UINT8, _EXTERNAL
    tensor.dims.extend(value.shape)
    for key, entry in (("location", _LOCATION), ("offset", "0"), ("length", str(value.nbytes))):
        item = tensor.external_data.add()
        item.key, item.value = key, entry


def _set(field: Any, values: list[Any]) -> None:
    """Let a repeated field of messages hold these of its own."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
