"""Runs a graph whose weights are larger than memory: in pieces, of which only some stay open between calls.

To a backend it is a session of ONNX Runtime. The kernels are those of the whole graph; what the runtime would fuse
across the border of two pieces runs as two operators.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jisu.exporter.gate.opened_sizes import opened_sizes
from jisu.exporter.graph.graph_pieces import PIECE_BYTES, Piece, constant_nodes, cut_graph, piece_model
from jisu.exporter.jobs.free_memory import give_back_freed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

PROVIDER = "CPUExecutionProvider"
# Of what is bound of an output: device and its number, and of one in memory of the caller type, shape and address.
_IN_MEMORY = 5


@dataclass(frozen=True, kw_only=True)
class GraphValue:
    """An input or an output of the whole graph, as a session describes it: its type is ``tensor(float)`` and alike."""

    name: str
    type: str
    shape: list[int | str | None]


class Binding:
    """Memory for the inputs and outputs of calls, as a session's ``io_binding`` has it."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, tuple[Any, ...]] = {}
        self.results: dict[str, Result] = {}

    def bind_input(self, name: str, device: str, device_id: int, kind: Any, shape: Sequence[int], pointer: int) -> None:
        """Read an input from memory of the caller."""
        self.inputs[name] = (device, device_id, kind, shape, pointer)

    def bind_output(self, name: str, device: str = "cpu", device_id: int = 0, *memory: Any) -> None:
        """Write an output into memory of the caller, or into some of its own; ``memory``: type, shape and address."""
        self.outputs.pop(name, None)
        self.outputs[name] = (device, device_id, *memory)

    def get_outputs(self) -> list[Result | None]:
        """Of the last call, in the order in which they were bound; None for one that is in the caller's memory."""
        return [self.results.get(name) for name in self.outputs]


@dataclass(frozen=True)
class Result:
    """A tensor in memory of its own: a value of the runtime's keeps the session that made it, with all of its weights.

    Attributes:
        data: its bytes, uint8.
        kind: its type, as ``onnx.TensorProto.DataType`` has it; numpy does not know all of them.
    """

    data: npt.NDArray[np.uint8]
    kind: int
    shape: tuple[int, ...]

    @classmethod
    def copied(cls, value: Any) -> Result:
        """What an `onnxruntime.OrtValue` on the CPU holds."""
        import numpy as np

        size = value.tensor_size_in_bytes()
        data = np.empty(size, np.uint8)
        if size:
            ctypes.memmove(data.ctypes.data, value.data_ptr(), size)
        return cls(data, value.element_type(), tuple(value.shape()))

    def numpy(self) -> npt.NDArray[Any]:
        """The array of it."""
        import onnx

        return self.data.view(onnx.helper.tensor_dtype_to_np_dtype(self.kind)).reshape(self.shape)


class SessionInPieces:
    """A graph that runs piece by piece.

    Args:
        model: its weights lie in files.
        open_piece: opens a graph with some of the same weights.
        open_bytes: of opened weights that are in memory at once, at most; one piece is always.
        keeps_half: whether weights of half precision stay in their files when a piece is opened.
        last_call: settings of the last piece's call, by the package's names.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        open_piece: Callable[[onnx.ModelProto], Any],
        *,
        open_bytes: int,
        keeps_half: bool = False,
        last_call: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._model, self._open_piece, self._last_call = model, open_piece, last_call
        sizes = opened_sizes(model, keeps_half=keeps_half)
        outputs = {value.name for value in model.graph.output}
        self._parts = [
            _Part(
                piece=piece,
                size=sum(sizes.get(name, 0) for name in piece.reads),
                outputs=tuple(sorted({*piece.carries, *(piece.writes & outputs)})),
            )
            for piece in cut_graph(model.graph, sizes, most=PIECE_BYTES, constants=constant_nodes(model.graph))
        ]
        self._kept = _stay_open([part.size for part in self._parts], open_bytes)
        self._open: dict[int, Any] = {}

    @property
    def pieces(self) -> int:
        """Into how many the graph is cut."""
        return len(self._parts)

    @property
    def open_pieces(self) -> int:
        """How many are open now."""
        return len(self._open)

    def get_providers(self) -> list[str]:
        """The provider that all pieces run on."""
        return [PROVIDER]

    def get_inputs(self) -> list[GraphValue]:
        """Those that every call brings."""
        optional = {one.name for one in self._model.graph.initializer}
        return [_described(one) for one in self._model.graph.input if one.name not in optional]

    def get_overridable_initializers(self) -> list[GraphValue]:
        """Those that have a default."""
        optional = {one.name for one in self._model.graph.initializer}
        return [_described(one) for one in self._model.graph.input if one.name in optional]

    def get_outputs(self) -> list[GraphValue]:
        """Those of the whole graph."""
        return [_described(one) for one in self._model.graph.output]

    def io_binding(self) -> Binding:
        """An empty one."""
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        """Run all pieces; outputs that nobody has bound are not kept."""
        values: dict[str, Result] = {}
        binding.results = {}
        needed = self._needed(binding.outputs)
        last = max(needed, default=0)
        for place, part in enumerate(self._parts):
            if place in needed:
                session = self._session(place, values)
                settings = self._last_call if place == last else {}
                self._run(part, needed[place], session, binding, values, settings)
                if place not in self._open:
                    del session
                    give_back_freed()
            for name in part.piece.ends:
                values.pop(name, None)

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        """Run on arrays by name; returns those of the outputs, of all where no names are given."""
        import numpy as np

        names = [one.name for one in self._model.graph.output] if outputs is None else outputs
        binding = self.io_binding()
        held = {name: np.asarray(array, order="C") for name, array in feeds.items()}
        for name, array in held.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name in names:
            binding.bind_output(name)
        self.run_with_iobinding(binding)
        return [binding.results[name].numpy() for name in names]

    def _needed(self, outputs: Iterable[str]) -> dict[int, list[str]]:
        """Pieces that these outputs of the graph are made by, and which of its values each of them has to give."""
        read, needed = set(outputs), {}
        for place, part in reversed([*enumerate(self._parts)]):
            if names := [name for name in part.outputs if name in read]:
                needed[place] = names
                read |= part.piece.reads
        return needed

    def _session(self, place: int, values: Mapping[str, Result]) -> Any:
        if place in self._open:
            return self._open[place]
        part = self._parts[place]
        kinds = {name: value.kind for name, value in values.items() if name in part.piece.reads}
        session = self._open_piece(piece_model(self._model, part.piece, kinds, part.outputs))
        if place < self._kept:
            self._open[place] = session
        return session

    def _run(
        self,
        part: _Part,
        names: Sequence[str],
        session: Any,
        binding: Binding,
        values: dict[str, Result],
        settings: Mapping[str, str],
    ) -> None:
        """Run a piece for these of its outputs."""
        memory = session.io_binding()
        for item in (*session.get_inputs(), *session.get_overridable_initializers()):
            if (value := values.get(item.name)) is not None:
                memory.bind_input(item.name, "cpu", 0, value.kind, value.shape, value.data.ctypes.data)
            elif item.name in binding.inputs:
                memory.bind_input(item.name, *binding.inputs[item.name])
        for name in names:
            memory.bind_output(name, *binding.outputs.get(name, ()))
        session.run_with_iobinding(memory, _run_options(settings))
        for name, result in zip(names, memory.get_outputs(), strict=True):
            carries = name in part.piece.carries
            returns = name in binding.outputs and len(binding.outputs[name]) < _IN_MEMORY
            if carries or returns:
                copy = Result.copied(result)
                values.update({name: copy} if carries else {})
                binding.results.update({name: copy} if returns else {})


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A piece, the bytes that it takes when it is open, and the names of what it gives."""

    piece: Piece
    size: int
    outputs: tuple[str, ...]


def _run_options(settings: Mapping[str, str]) -> Any:
    """Options of a call; None without settings."""
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    if not settings:
        return None
    options = import_onnxruntime().RunOptions()
    for name, value in settings.items():
        options.add_run_config_entry(name, value)
    return options


def _stay_open(sizes: Sequence[int], most: int) -> int:
    """How many pieces, the first ones, stay open while each of the others is opened and closed again."""
    for count in range(len(sizes), 0, -1):
        if sum(sizes[:count]) + max(sizes[count:], default=0) <= most:
            return count
    return 0


def _described(value: onnx.ValueInfoProto) -> GraphValue:
    import onnx

    kind = value.type.tensor_type
    dims = [one.dim_value if one.HasField("dim_value") else one.dim_param or None for one in kind.shape.dim]
    name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return GraphValue(name=value.name, type=f"tensor({_TYPE_NAMES.get(name, name)})", shape=[*dims])


# What ONNX Runtime calls otherwise than numpy.
_TYPE_NAMES = {"float32": "float", "float64": "double"}
