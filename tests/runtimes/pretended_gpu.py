"""Stands in for onnxruntime-gpu: the CPU computes, the interface is that of a session on a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

PROVIDER = "CUDAExecutionProvider"
BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


class Value:
    """An `OrtValue`: memory that is only reached through these methods, so that addresses show.

    Args:
        element_type: ONNX's number of a type that numpy has not, of whose elements the array holds the bits.
    """

    def __init__(self, array: np.ndarray, element_type: int | None = None) -> None:
        self.array = array
        self._element_type = element_type

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str, number: int) -> Value:
        assert (device, number) == ("cuda", 0)
        return cls(array.copy())

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Any, element_type: Any, device: str, number: int) -> Value:
        assert (device, number) == ("cuda", 0)
        if element_type == BFLOAT16:
            return cls(np.zeros(shape, np.uint16), element_type)
        return cls(np.zeros(shape, element_type))

    def numpy(self) -> np.ndarray:
        if self._element_type is not None:
            raise RuntimeError("No corresponding Numpy type for Tensor Type. bfloat16")
        return self.array.copy()

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def element_type(self) -> Any:
        return self._element_type or self.array.dtype

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.shape == self.array.shape
        assert array.dtype == self.array.dtype
        self.array[...] = array


class Binding:
    """What is bound, by name: element type, shape and address."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[Any, Any, int]] = {}
        self.outputs: dict[str, tuple[Any, Any, int]] = {}
        self.actual: dict[str, Value] = {}

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.bind_input(name, "cuda", 0, value.element_type(), value.shape(), value.data_ptr())

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.bind_output(name, "cuda", 0, value.element_type(), value.shape(), value.data_ptr())

    def bind_input(self, name: str, device: str, number: int, element_type: Any, shape: Any, address: int) -> None:
        assert (device, number) == ("cuda", 0)
        self.inputs[name] = (element_type, shape, address)

    def bind_output(
        self, name: str, device: str, number: int = 0, element_type: Any = None, shape: Any = None, address: int = 0
    ) -> None:
        """Without an address the runtime finds the memory itself."""
        assert (device, number) == ("cuda", 0)
        self.outputs[name] = (element_type, shape, address)

    def get_outputs(self) -> list[Value]:
        return [self.actual.get(name, Value(np.zeros(0))) for name in self.outputs]


class RunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class Session:
    """Runs on the CPU and says that it does not; a captured graph must never see another address."""

    def __init__(
        self,
        path: str | bytes,
        options: Any,
        providers: Any,
        *,
        strays: tuple[tuple[str, str], ...] = (),
        records: bool = True,
        loops: tuple[str, ...] = (),
    ) -> None:
        assert providers[0][0] == PROVIDER
        if providers[0][1].get("enable_cuda_graph") == "1" and not records:
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        self._loops = loops
        if isinstance(path, str):
            # What a GPU computes in half, the CPU runs from the file that the export wrote for it.
            beside = Path(path).with_suffix(".cpu.onnx")
            path = str(beside) if beside.is_file() else path
        self._real = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._strays = strays
        self.captured: dict[str, dict[str, int]] = {}

    def get_providers(self) -> list[str]:
        return [PROVIDER, "CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_outputs(self) -> Any:
        return self._real.get_outputs()

    def get_overridable_initializers(self) -> Any:
        return self._real.get_overridable_initializers()

    def get_provider_graph_assignment_info(self) -> Any:
        ours = [SimpleNamespace(op_type="MatMul", name="a"), SimpleNamespace(op_type="GroupQueryAttention", name="b")]
        ours += [SimpleNamespace(op_type=op_type, name="loop") for op_type in self._loops]
        theirs = [SimpleNamespace(op_type="Shape", name="c")]
        theirs += [SimpleNamespace(op_type=op_type, name=name) for op_type, name in self._strays]
        return [
            SimpleNamespace(ep_name=PROVIDER, get_nodes=lambda: ours),
            SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: theirs),
        ]

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        actual: list[np.ndarray] = self._real.run(names, feeds)
        return actual

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: RunOptions) -> None:
        graph = options.entries.get("gpu_graph_id", "-1")
        addresses = {name: address for name, (_, _, address) in {**binding.inputs, **binding.outputs}.items()}
        if graph != "-1":
            assert self.captured.setdefault(graph, addresses) == addresses
        real = self._real.io_binding()
        for name, (element_type, shape, address) in binding.inputs.items():
            real.bind_input(name, "cpu", 0, element_type, shape, address)
        for name, (element_type, shape, address) in binding.outputs.items():
            real.bind_output(name, "cpu", *((0, element_type, shape, address) if address else ()))
        self._real.run_with_iobinding(real)
        actual = zip(binding.outputs, real.get_outputs(), strict=True)
        binding.actual = {name: Value(value.numpy()) for name, value in actual if not binding.outputs[name][2]}


def pretended_onnxruntime(
    *, strays: tuple[tuple[str, str], ...] = (), records: bool = True, loops: tuple[str, ...] = ()
) -> Any:
    """A module like onnxruntime-gpu's.

    Args:
        strays: operators that it places on the CPU.
        records: whether graphs are on the GPU from one end to the other, so that calls can be recorded.
        loops: operators of cuDNN that it says to have found.
    """

    def session(path: str | bytes, options: Any, providers: Any) -> Session:
        return Session(path, options, providers, strays=strays, records=records, loops=loops)

    return SimpleNamespace(
        __version__="1.31",
        get_available_providers=lambda: [PROVIDER, "CPUExecutionProvider"],
        SessionOptions=onnxruntime.SessionOptions,
        RunOptions=RunOptions,
        OrtValue=Value,
        InferenceSession=session,
    )
