"""The plan of a model that reads whole texts, in memory of the largest call's size.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import INPUT_IDS, TensorSpec
from jisu.runtimes.backends.element_types import storage_dtype
from jisu.runtimes.backends.padded_one_pass import PaddedOnePass, output_of
from jisu.runtimes.backends.tensorrt.contexts import Contexts
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import PREFILL, Shapes


def open_one_pass_plan(
    library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any
) -> PaddedOnePass:
    """A model of one plan; more rows than it was built for go through one group after the other.

    Args:
        plan: its bytes, see `runtimes.backends.tensorrt.plan_file.read_plan`.
        artifact: what it was built from.
        shapes: what it was built for.
        cuda: the module ``cuda.bindings.runtime``, or what stands in for it.

    Raises:
        InputError: the library cannot read the plan here, or it does not fit the GPU.
    """
    rows = _Rows(library, plan, artifact, shapes=shapes, cuda=cuda)
    return PaddedOnePass(library.name, artifact, rows.run, longest=shapes.prompt, release=rows.close)


class _Rows:
    """The plan, and the memory that its calls use."""

    def __init__(self, library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any) -> None:
        signature, self._output = artifact.manifest.signature, output_of(artifact)
        self._columns, self._rows = int(self._output.dims[-1]), shapes.batch
        self._per_token = len(self._output.dims) > 2
        self._device = Device(cuda)
        self._contexts = Contexts(library, plan, plan_graphs(artifact)[0], shapes=shapes, device=self._device)
        self._fed = {
            spec.name: self._device.allocate(8 * shapes.batch * shapes.prompt, purpose="inputs")
            for spec in signature.inputs
        }
        self._dtype = storage_dtype(self._output.dtype)
        # Every output needs an address, whether it is read or not.
        self._written = {
            spec.name: self._device.allocate(_largest(spec, shapes), purpose=spec.name) for spec in signature.outputs
        }

    def run(self, feeds: dict[str, TokenIds]) -> Logits:
        rows = len(feeds[INPUT_IDS])
        groups = [slice(start, start + self._rows) for start in range(0, rows, self._rows)]
        parts = [self._group({name: array[group] for name, array in feeds.items()}) for group in groups]
        numbers: Logits = np.concatenate(parts)
        return numbers

    def _group(self, feeds: dict[str, TokenIds]) -> npt.NDArray[Any]:
        context = self._contexts.by_name[PREFILL]
        for name, array in feeds.items():
            self._device.write(self._fed[name], np.ascontiguousarray(array))
            context.set_input_shape(name, array.shape)
            context.set_tensor_address(name, self._fed[name])
        for name, address in self._written.items():
            context.set_tensor_address(name, address)
        rows, tokens = feeds[INPUT_IDS].shape
        self._contexts.execute(PREFILL, rows=rows, tokens=tokens)
        shape = (rows, tokens, self._columns) if self._per_token else (rows, self._columns)
        numbers: npt.NDArray[Any] = np.empty(shape, self._dtype)
        self._device.read(self._written[self._output.name], numbers)
        return numbers

    def close(self) -> None:
        self._contexts.close()
        self._device.close()


def _largest(spec: TensorSpec, shapes: Shapes) -> int:
    """Bytes of an output in the largest call: its first dim counts texts, one in the middle tokens."""
    tokens = shapes.prompt if len(spec.dims) > 2 else 1
    return storage_dtype(spec.dtype).itemsize * shapes.batch * tokens * int(spec.dims[-1])
