"""A classifier's plan: token ids in, a row of logits out, in memory of the largest call's size.

Written against TensorRT 11 and TensorRT-RTX 1.7 and **never run on a GPU**: the tests stand in for library and driver.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.artifact import Artifact
from exporter.signature import ATTENTION_MASK, INPUT_IDS, LOGITS
from runtimes.backend import Logits, TokenIds
from runtimes.classifier_backend import Rows, padded_rows
from runtimes.element_types import storage_dtype
from runtimes.lengths import closed
from runtimes.tensorrt.contexts import Contexts
from runtimes.tensorrt.device import Device
from runtimes.tensorrt.library import Library
from runtimes.tensorrt.plan_graph import plan_graphs
from runtimes.tensorrt.profiles import PREFILL, Shapes


class PlanClassifier:
    """Runs one plan of a classifier; more rows than it was built for go through one group after the other.

    Args:
        plan: its bytes, see `runtimes.tensorrt.plan_file.read_plan`.
        artifact: what it was built from.
        shapes: what it was built for.
        cuda: the module ``cuda.bindings.runtime``, or what stands in for it.

    Raises:
        InputError: the library cannot read the plan here, or it does not fit the GPU.
    """

    def __init__(self, library: Library, plan: bytes, artifact: Artifact, *, shapes: Shapes, cuda: Any) -> None:
        manifest = artifact.manifest
        self.name = library.name
        self.labels = len(manifest.model.labels)
        self.vocab_size = manifest.model.vocab_size
        self.max_positions: int | None = min(manifest.model.max_positions or shapes.prompt, shapes.prompt)
        self.takes_unequal = manifest.signature.has_input(ATTENTION_MASK)
        self._pad = manifest.model.pad or 0
        self._rows = shapes.batch
        self._device: Device | None = Device(cuda)
        self._contexts = Contexts(library, plan, plan_graphs(artifact)[0], shapes=shapes, device=self._device)
        self._fed = {
            spec.name: self._device.allocate(8 * shapes.batch * shapes.prompt, purpose="inputs")
            for spec in manifest.signature.inputs
        }
        logits = next(spec for spec in manifest.signature.outputs if spec.name == LOGITS)
        self._dtype = storage_dtype(logits.dtype)
        size = self._dtype.itemsize * shapes.batch * self.labels
        self._logits = self._device.allocate(size, purpose="logits")

    def logits(self, rows: Rows) -> Logits:
        if self._device is None:
            raise closed(self.name)
        ids, mask = padded_rows(rows, self, pad=self._pad)
        groups = [slice(start, start + self._rows) for start in range(0, len(ids), self._rows)]
        return np.concatenate([self._run(self._device, ids[group], mask[group]) for group in groups])

    def _run(self, device: Device, ids: TokenIds, mask: TokenIds) -> Logits:
        context = self._contexts.by_name[PREFILL]
        for name, array in ((INPUT_IDS, ids), (ATTENTION_MASK, mask)):
            if name in self._fed:
                device.write(self._fed[name], np.ascontiguousarray(array))
                context.set_input_shape(name, array.shape)
                context.set_tensor_address(name, self._fed[name])
        context.set_tensor_address(LOGITS, self._logits)
        self._contexts.execute(PREFILL, rows=len(ids), tokens=ids.shape[1])
        found: npt.NDArray[Any] = np.empty((len(ids), self.labels), self._dtype)
        device.read(self._logits, found)
        return found.astype(np.float32, copy=False)

    def close(self) -> None:
        if self._device is not None:
            self._contexts.close()
            self._device.close()
            self._device = None
