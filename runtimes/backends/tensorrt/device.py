"""Memory of an NVIDIA GPU and a stream to work on, through cuda-python: TensorRT's runtime is given addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from jisu.exporter.contract.errors import InputError

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
# Members of the module's enumerations: cuda-python 13.0 takes no numbers for them. Of the second, what other threads do
# meanwhile is not recorded.
_TO_DEVICE, _TO_HOST, _ON_DEVICE = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice"
_THREAD_LOCAL = "cudaStreamCaptureModeThreadLocal"


class Device:
    """The current GPU: allocations and one stream, released together.

    Args:
        runtime: the module ``cuda.bindings.runtime``, or what stands in for it.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._held: dict[int, int] = {}
        self._graphs: list[Any] = []
        self.stream: Any = self._call("cudaStreamCreate")[0]

    @property
    def handle(self) -> int:
        """The stream as TensorRT takes it."""
        return int(self.stream)

    def allocate(self, size: int, *, purpose: str) -> int:
        """The address of ``size`` bytes of zeros.

        Raises:
            InputError: so much memory is not free; the message says how much was needed.
        """
        code, *results = self._runtime.cudaMalloc(max(size, 1))
        if int(code) == _OUT_OF_MEMORY:
            free, total = self._call("cudaMemGetInfo")
            raise InputError(
                f"The GPU has no room for {purpose}",
                received=f"{size / 1e6:.0f} MB needed, {free / 1e6:.0f} of {total / 1e6:.0f} MB free",
                allowed="what is free",
                fix="Use fewer rows, or a plan with a smaller --capacity.",
            )
        self._check("cudaMalloc", code)
        address = int(results[0])
        self._held[address] = size
        self.clear(address, size)
        return address

    def clear(self, address: int, size: int) -> None:
        """Fill with zeros."""
        self._call("cudaMemsetAsync", address, 0, size, self.stream)

    def write(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address and wait until it is there."""
        assert array.flags.c_contiguous
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)
        self.wait()

    def read(self, address: int, array: npt.NDArray[Any]) -> None:
        """Fill an array from an address, behind everything that the stream has to do."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)
        self.wait()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address to another, behind everything that the stream has to do."""
        self._copy(target, source, size, _ON_DEVICE)

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        self._call("cudaMemcpyAsync", target, source, size, getattr(self._runtime.cudaMemcpyKind, kind), self.stream)

    def wait(self) -> None:
        self._call("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], bool]) -> Any | None:
        """Record what ``work`` gives the stream, without doing it; None where that cannot be recorded.

        The graph belongs to the device, see `launch` and `forget`. It reads and writes the addresses of now.
        """
        mode = getattr(self._runtime.cudaStreamCaptureMode, _THREAD_LOCAL)
        self._call("cudaStreamBeginCapture", self.stream, mode)
        recorded = work()
        code, *results = self._runtime.cudaStreamEndCapture(self.stream)
        if not recorded or int(code) != 0:
            return None
        graph = self._call("cudaGraphInstantiate", results[0], 0)[0]
        self._call("cudaGraphDestroy", results[0])
        self._graphs.append(graph)
        return graph

    def launch(self, graph: Any) -> None:
        """Do what was recorded."""
        self._call("cudaGraphLaunch", graph, self.stream)

    def forget(self, graph: Any) -> None:
        """Release a graph; safe to call twice, and after `close`."""
        if any(held is graph for held in self._graphs):
            self._graphs = [held for held in self._graphs if held is not graph]
            self._call("cudaGraphExecDestroy", graph)

    def free(self, address: int) -> None:
        if self._held.pop(address, None) is not None:
            self._call("cudaFree", address)

    def close(self) -> None:
        """Release everything; safe to call twice."""
        for graph in list(self._graphs):
            self.forget(graph)
        for address in list(self._held):
            self.free(address)
        if self.stream is not None:
            self._call("cudaStreamDestroy", self.stream)
            self.stream = None

    def leave(self) -> None:
        """Forget everything without releasing it: a forked process has the addresses, but not the device."""
        self._held, self._graphs, self.stream = {}, [], None

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        code, *results = getattr(self._runtime, name)(*arguments)
        self._check(name, code)
        return list(results)

    def _check(self, name: str, code: Any) -> None:
        if int(code) != 0:
            raise InputError(
                f"The GPU answers {name} with error {int(code)}",
                received=getattr(code, "name", None),
                allowed="a GPU and a driver that work",
                fix="Check them with: jisu doctor.",
            )
