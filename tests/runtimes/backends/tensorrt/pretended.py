"""Stands in for TensorRT and the CUDA driver: addresses are this machine's, and ONNX Runtime computes."""

from __future__ import annotations

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.signature import Signature
from jisu.runtimes.backends.tensorrt.library import Library

PLAN, ENCODER_PLAN = b"a plan", b"an encoder's plan"
STREAM = 7
_TYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(float16)": np.float16}
_TYPES["tensor(bfloat16)"] = 16  # onnx.TensorProto.BFLOAT16, which numpy has not


class Cuda:
    """The few calls of ``cuda.bindings.runtime`` that are made, on memory of this machine."""

    class cudaMemcpyKind(Enum):
        cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice = range(1, 4)

    class cudaStreamCaptureMode(Enum):
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self, *, room: int = 1 << 30) -> None:
        self.room = room
        self.held: dict[int, Any] = {}
        self.launched = 0
        self.graphs: list[Any] = []
        # As a driver that cannot record what the library does.
        self.records = True

    def cudaStreamBeginCapture(self, stream: int, mode: Enum) -> tuple[int]:
        assert stream == STREAM and mode in self.cudaStreamCaptureMode
        Context.recorded = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        work, Context.recorded = Context.recorded, None
        return (0, work) if self.records else (900, None)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        self.graphs.append(graph)
        return 0, graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:
        for work in graph:
            work()
        self.launched += 1
        return (0,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        self.graphs = [held for held in self.graphs if held is not graph]
        return (0,)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, STREAM

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self.room, 2 * self.room

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if size > self.room:
            return 2, 0
        buffer = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.held[address]
        return (0,)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[int]:
        ctypes.memset(address, value, size)
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Enum, stream: int) -> tuple[int]:
        assert kind in self.cudaMemcpyKind
        ctypes.memmove(target, source, size)
        return (0,)


class Context:
    # What is recorded instead of done; None while nothing is.
    recorded: list[Any] | None = None

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self._signature = signature
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        if Context.recorded is not None:
            Context.recorded.append(lambda: self._execute(shapes, addresses))
        else:
            self._execute(shapes, addresses)
        return True

    def _execute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        pasts = [name for name in addresses if name.startswith("past_key_values.")]
        if pasts and not self._signature.encoded:
            assert (self.profile == 1) == (shapes["input_ids"][1] == 1), "single tokens have a profile of their own"
        if self._signature.encoded:
            assert (self.profile, shapes["input_ids"][1]) == (0, 1), "behind an encoder there are single tokens alone"
        for past in pasts:  # a cache is updated in place
            assert addresses[past] == addresses[past.replace("past_key_values.", "present.")]
        inputs = {item.name: _TYPES[item.type] for item in self._session.get_inputs()}
        inputs |= {item.name: _TYPES[item.type] for item in self._session.get_overridable_initializers()}
        binding = self._session.io_binding()
        for name, dtype in inputs.items():
            binding.bind_input(name, "cpu", 0, dtype, shapes[name], addresses[name])
        names = [item.name for item in self._session.get_outputs()]
        for name in names:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        for name, actual in zip(names, binding.get_outputs(), strict=True):
            ctypes.memmove(addresses[name], actual.data_ptr(), actual.tensor_size_in_bytes())


def pretended_library(artifact: Artifact) -> Library:
    """A library whose plans are the artifact's graph and its encoder's, as CPUs run them."""
    signature = artifact.manifest.signature
    plans = {PLAN: (artifact.cpu_graph, signature), ENCODER_PLAN: (artifact.cpu_encoder, signature.encoder())}

    class Logger:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if plan not in plans:
                self._logger.log(Logger.ERROR, "the plan's header is not ours")
                return None
            graph, signature = plans[plan]
            session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
            return SimpleNamespace(create_execution_context=lambda: Context(session, signature))

    return Library(name="tensorrt", module=SimpleNamespace(ILogger=Logger, Runtime=Runtime, __version__="11.4"))
