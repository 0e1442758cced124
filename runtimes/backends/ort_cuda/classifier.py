"""A classifier on ONNX Runtime's CUDA provider: token ids in, a row of logits out, nothing kept between calls.

Written against onnxruntime-gpu 1.31; **not run on a GPU yet**: the tests stand in for the package or for CUDA.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import Signature
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.rows import run_rows
from jisu.runtimes.backends.ort.signature import check_session
from jisu.runtimes.backends.ort_cuda.session import NAME, PROVIDER, not_run, onnxruntime_for_gpu, open_cuda_session
from jisu.runtimes.backends.padded_classifier import PaddedClassifier


def open_ort_cuda_classifier(
    artifact: Artifact, *, threads: int | None, source: Any, allow_cpu_nodes: bool = False
) -> OrtCudaClassifier:
    """Open a classifier's graph on the GPU; ``threads`` and ``source`` are not needed. Raises as `open_ort_cuda`."""
    check_kernels(artifact)
    package = onnxruntime_for_gpu(artifact.manifest.precision)
    return OrtCudaClassifier(package, artifact, allow_cpu_nodes=allow_cpu_nodes)


class OrtCudaClassifier(PaddedClassifier):
    """Runs a graph on the GPU, and tells where its operators run.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the CPU.
    """

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        signature = artifact.manifest.signature
        # Texts differ in length: there are no two calls of one shape that a recording would serve.
        session, self.placement = open_cuda_session(
            onnxruntime, artifact.graph, captures=False, allow_cpu_nodes=allow_cpu_nodes
        )
        check_session(session, signature, provider=PROVIDER)
        super().__init__(NAME, artifact, partial(_run, session, signature))


def _run(session: Any, signature: Signature, ids: TokenIds, mask: TokenIds) -> Logits:
    try:
        return run_rows(session, signature, ids, mask)
    except Exception as error:  # the package's errors share no class of their own
        raise not_run(error, rows=len(ids), tokens=ids.shape[1]) from error
