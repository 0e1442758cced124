"""A classifier on ONNX Runtime's CUDA provider: token ids in, a row of logits out, nothing kept between calls.

Written against onnxruntime-gpu 1.31; **not run on a GPU yet**: the tests stand in for the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exporter.artifact import Artifact
from exporter.signature import ATTENTION_MASK, INPUT_IDS, LOGITS
from runtimes.backend import Logits
from runtimes.classifier_backend import Rows, padded_rows
from runtimes.lengths import closed
from runtimes.ort_cuda_session import NAME, PROVIDER, not_run, onnxruntime_for_gpu, open_cuda_session
from runtimes.ort_signature import check_session


def open_ort_cuda_classifier(
    artifact: Artifact, *, threads: int | None, source: Any, allow_cpu_nodes: bool = False
) -> OrtCudaClassifier:
    """Open a classifier's graph on the GPU; ``threads`` and ``source`` are not needed. Raises as `open_ort_cuda`."""
    package = onnxruntime_for_gpu(artifact.manifest.precision)
    return OrtCudaClassifier(package, artifact, allow_cpu_nodes=allow_cpu_nodes)


class OrtCudaClassifier:
    """Runs a graph from ``input_ids`` and, where it has one, ``attention_mask`` to ``logits`` [B, labels].

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the processor.
    """

    name = NAME

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        manifest = artifact.manifest
        # Texts differ in length: there are no two calls of one shape that a recording would serve.
        session, self.placement = open_cuda_session(
            onnxruntime, artifact.graph, captures=False, allow_cpu_nodes=allow_cpu_nodes
        )
        check_session(session, manifest.signature, provider=PROVIDER)
        self.labels = len(manifest.model.labels)
        self.vocab_size = manifest.model.vocab_size
        self.max_positions = manifest.model.max_positions
        self.takes_unequal = manifest.signature.has_input(ATTENTION_MASK)
        self._pad = manifest.model.pad or 0
        self._session: Any | None = session

    def logits(self, rows: Rows) -> Logits:
        if self._session is None:
            raise closed(self.name)
        ids, mask = padded_rows(rows, self, pad=self._pad)
        feeds = {INPUT_IDS: ids, **({ATTENTION_MASK: mask} if self.takes_unequal else {})}
        try:
            found: Logits = self._session.run([LOGITS], feeds)[0]
        except Exception as error:  # the package's errors share no class of their own
            raise not_run(error, rows=len(ids), tokens=ids.shape[1]) from error
        return found.astype(np.float32, copy=False)

    def close(self) -> None:
        self._session = None
