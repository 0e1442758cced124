"""A classifier's plan: token ids in, a row of logits out, in memory of the largest call's size.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS
from jisu.runtimes.backends.element_types import storage_dtype
from jisu.runtimes.backends.padded_classifier import PaddedClassifier
from jisu.runtimes.backends.tensorrt.contexts import Contexts
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import PREFILL, Shapes


def open_classifier_plan(
    library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any
) -> PaddedClassifier:
    """A classifier of one plan; more rows than it was built for go through one group after the other.

    Args:
        plan: its bytes, see `runtimes.backends.tensorrt.plan_file.read_plan`.
        artifact: what it was built from.
        shapes: what it was built for.
        cuda: the module ``cuda.bindings.runtime``, or what stands in for it.

    Raises:
        InputError: the library cannot read the plan here, or it does not fit the GPU.
    """
    rows = _Rows(library, plan, artifact, shapes=shapes, cuda=cuda)
    return PaddedClassifier(library.name, artifact, rows.run, longest=shapes.prompt, release=rows.close)


class _Rows:
    """The plan, and the memory that its calls use."""

    def __init__(self, library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any) -> None:
        signature = artifact.manifest.signature
        self._labels, self._rows = len(artifact.manifest.model.labels), shapes.batch
        self._device = Device(cuda)
        self._contexts = Contexts(library, plan, plan_graphs(artifact)[0], shapes=shapes, device=self._device)
        self._fed = {
            spec.name: self._device.allocate(8 * shapes.batch * shapes.prompt, purpose="inputs")
            for spec in signature.inputs
        }
        logits = next(spec for spec in signature.outputs if spec.name == LOGITS)
        self._dtype = storage_dtype(logits.dtype)
        size = self._dtype.itemsize * shapes.batch * self._labels
        self._logits = self._device.allocate(size, purpose="logits")

    def run(self, ids: TokenIds, mask: TokenIds) -> Logits:
        groups = [slice(start, start + self._rows) for start in range(0, len(ids), self._rows)]
        logits: Logits = np.concatenate([self._group(ids[group], mask[group]) for group in groups])
        return logits

    def _group(self, ids: TokenIds, mask: TokenIds) -> npt.NDArray[Any]:
        context = self._contexts.by_name[PREFILL]
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask)):
            if name in self._fed:
                self._device.write(self._fed[name], np.ascontiguousarray(array))
                context.set_input_shape(name, array.shape)
                context.set_tensor_address(name, self._fed[name])
        context.set_tensor_address(LOGITS, self._logits)
        self._contexts.execute(PREFILL, rows=len(ids), tokens=ids.shape[1])
        logits: npt.NDArray[Any] = np.empty((len(ids), self._labels), self._dtype)
        self._device.read(self._logits, logits)
        return logits

    def close(self) -> None:
        self._contexts.close()
        self._device.close()
