"""The largest logits of each row, picked on the GPU that computed them by a small session of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.runtimes.backends.ort_cuda.session import DEVICE, PROVIDER
from jisu.runtimes.backends.ort_cuda.top_graph import IDS, INPUT, SUM, VALUES, top_graph


class DeviceTop:
    """Picks ``count`` logits of a vocabulary.

    Args:
        onnxruntime: the package, or what stands in for it.
        dtype: of the logits, in numpy's spelling.
    """

    def __init__(self, onnxruntime: Any, *, dtype: str, count: int, vocab_size: int) -> None:
        self._ort, self._count, self._vocab_size = onnxruntime, count, vocab_size
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(top_graph(dtype, count=count), options, providers=[(PROVIDER, {})])
        self._options = onnxruntime.RunOptions()
        self._full: Logits = np.full((0, 1, vocab_size), -np.inf, np.float32)
        # Where the last call's logits stand.
        self._ids: TokenIds = np.zeros((0, 1, count), np.int64)
        self._outputs: dict[str, Any] = {}

    def of(self, logits: Any) -> Logits | None:
        """float32 [B, 1, V] that is -inf but for the largest logits, overwritten by the next call.

        Args:
            logits: the runtime's value on the GPU, [B, 1, V].

        Returns:
            None where a logit is not finite (or forbidden, -inf): whoever chooses has to see all of them then.
        """
        batch = int(logits.shape()[0])
        if len(self._full) != batch:
            self._prepare(batch)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, logits)
        for name, value in self._outputs.items():
            binding.bind_ortvalue_output(name, value)
        self._session.run_with_iobinding(binding, self._options)
        values, ids, total = (self._outputs[name].numpy() for name in (VALUES, IDS, SUM))
        if not np.isfinite(total).all():
            return None
        np.put_along_axis(self._full, self._ids, -np.inf, axis=2)
        np.put_along_axis(self._full, ids, values, axis=2)
        self._ids = ids
        return self._full

    def _prepare(self, batch: int) -> None:
        shape = (batch, 1, self._count)
        self._ids = np.zeros(shape, np.int64)
        arrays: dict[str, Any] = {VALUES: np.zeros(shape, np.float32), IDS: self._ids, SUM: np.zeros(batch, np.float32)}
        make = self._ort.OrtValue.ortvalue_from_numpy
        self._outputs = {name: make(array, DEVICE, 0) for name, array in arrays.items()}
        self._full = np.full((batch, 1, self._vocab_size), -np.inf, np.float32)
