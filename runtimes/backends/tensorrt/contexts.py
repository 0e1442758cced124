"""Opens a plan: one context for each of its profiles, over one set of weights.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.messages import Messages, logger_into
from jisu.runtimes.backends.tensorrt.plan_graph import PlanGraph
from jisu.runtimes.backends.tensorrt.profiles import Shapes, profiles_for

# Words of CUDA and of TensorRT for memory that is not there.
_FULL = ("out of memory", "outofmemory", "memoryallocation")


def open_engine(library: Library, plan: bytes, graph: PlanGraph) -> tuple[Any, Any, Messages]:
    """The library's runtime, which lives as long as anything of it is used, its engine, and what it says.

    Raises:
        InputError: the library cannot read the plan here.
    """
    messages = Messages()
    runtime = library.module.Runtime(logger_into(messages, library))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None and any(word in line.lower() for line in messages.errors for word in _FULL):
        raise InputError(
            f"The GPU has no room for the weights of {graph.path}",
            received=f"{len(plan) / 1e6:.0f} MB needed: {messages.shown()}",
            allowed="what is free",
            fix="Close what else uses the GPU, or export the model in a smaller precision, such as --precision int4.",
        )
    if engine is None:
        raise InputError(
            f"The plan of {graph.path} cannot be opened by {library.name} {library.version}",
            received=messages.shown(),
            allowed="a plan that this library built for this GPU",
            fix="Delete it and build it again: jisu build.",
        )
    return runtime, engine, messages


class Contexts:
    """A plan's contexts by the name of their profile; they live as long as this does.

    Args:
        plan: its bytes, see `runtimes.backends.tensorrt.plan_file.read_plan`.
        graph: what it was built from.
        shapes: what it was built for.
        device: the GPU that it runs on.

    Raises:
        InputError: the library cannot read the plan here, or it does not fit the GPU.
    """

    def __init__(self, library: Library, plan: bytes, graph: PlanGraph, *, shapes: Shapes, device: Device) -> None:
        self._runtime, self._engine, messages = open_engine(library, plan, graph)
        self._device = device
        self.by_name: dict[str, Any] = {}
        for index, profile in enumerate(profiles_for(graph.signature, shapes)):
            context = self._engine.create_execution_context()
            if context is None:
                needed = int(getattr(self._engine, "device_memory_size_v2", 0))
                raise InputError(
                    f"The GPU has no room for the plan of {graph.path}",
                    received=f"{needed / 1e6:.0f} MB needed beside the weights: {messages.shown()}",
                    allowed="what is free",
                    fix="Build a plan with a smaller --prompt, --batch or --capacity, or of a smaller precision.",
                )
            context.set_optimization_profile_async(index, device.handle)
            self.by_name[profile.name] = context
        device.wait()

    def execute(self, name: str, *, rows: int, tokens: int) -> None:
        """Run a context on what it was given; raises InputError when the library does not."""
        if not self.by_name[name].execute_async_v3(self._device.handle):
            raise InputError(
                "TensorRT did not run the plan",
                received=f"{rows} rows of {tokens} tokens",
                allowed="shapes within the plan's profiles",
                fix="Build the plan again; should that not help, please report it.",
            )

    def close(self) -> None:
        self.by_name.clear()
        self._engine = self._runtime = None
