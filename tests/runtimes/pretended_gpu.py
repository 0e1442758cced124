"""Stands in for onnxruntime-gpu: the processor computes, the interface is that of a session on a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

PROVIDER = "CUDAExecutionProvider"


class Value:
    """An `OrtValue`: memory that is only reached through these methods, so that addresses show."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str, number: int) -> Value:
        assert (device, number) == ("cuda", 0)
        return cls(array.copy())

    def numpy(self) -> np.ndarray:
        return self.array.copy()

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.shape == self.array.shape
        assert array.dtype == self.array.dtype
        self.array[...] = array


class Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.outputs[name] = value


class RunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class Session:
    """Runs on the processor and says that it does not; a captured graph must never see another address."""

    def __init__(
        self, path: str | bytes, options: Any, providers: Any, *, strays: tuple[tuple[str, str], ...] = ()
    ) -> None:
        assert providers[0][0] == PROVIDER
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
        theirs = [SimpleNamespace(op_type="Shape", name="c")]
        theirs += [SimpleNamespace(op_type=op_type, name=name) for op_type, name in self._strays]
        return [
            SimpleNamespace(ep_name=PROVIDER, get_nodes=lambda: ours),
            SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: theirs),
        ]

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self._real.run(names, feeds)
        return found

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: RunOptions) -> None:
        graph = options.entries.get("gpu_graph_id", "-1")
        addresses = {name: id(value.array) for name, value in {**binding.inputs, **binding.outputs}.items()}
        if graph != "-1":
            assert self.captured.setdefault(graph, addresses) == addresses
        names = list(binding.outputs)
        feeds = {name: value.array for name, value in binding.inputs.items()}
        for name, found in zip(names, self._real.run(names, feeds), strict=True):
            binding.outputs[name].update_inplace(found)


def pretended_onnxruntime(*, strays: tuple[tuple[str, str], ...] = ()) -> Any:
    """A module like onnxruntime-gpu's."""

    def session(path: str | bytes, options: Any, providers: Any) -> Session:
        return Session(path, options, providers, strays=strays)

    return SimpleNamespace(
        __version__="1.31",
        get_available_providers=lambda: [PROVIDER, "CPUExecutionProvider"],
        SessionOptions=onnxruntime.SessionOptions,
        RunOptions=RunOptions,
        OrtValue=Value,
        InferenceSession=session,
    )
