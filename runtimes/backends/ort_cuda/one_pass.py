"""A model that reads whole texts on ONNX Runtime's CUDA provider: nothing is kept between calls.

Written against onnxruntime-gpu 1.31; **not run on a GPU yet**: the tests stand in for the package or for CUDA.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import INPUT_IDS
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.rows import run_rows
from jisu.runtimes.backends.ort.signature import check_session
from jisu.runtimes.backends.ort_cuda.session import NAME, PROVIDER, not_run, onnxruntime_for_gpu, open_cuda_session
from jisu.runtimes.backends.padded_one_pass import PaddedOnePass, output_of


def open_ort_cuda_one_pass(
    artifact: Artifact, *, threads: int | None, source: Any, allow_cpu_nodes: bool = False
) -> OrtCudaOnePass:
    """Open its graph on the GPU; ``threads`` and ``source`` are not needed. Raises as `open_ort_cuda`."""
    check_kernels(artifact)
    package = onnxruntime_for_gpu(artifact.manifest.precision)
    return OrtCudaOnePass(package, artifact, allow_cpu_nodes=allow_cpu_nodes)


class OrtCudaOnePass(PaddedOnePass):
    """Runs a graph on the GPU, and tells where its operators run.

    Args:
        onnxruntime: the package, or what stands in for it.
        allow_cpu_nodes: let operators that cost something run on the CPU.
    """

    def __init__(self, onnxruntime: Any, artifact: Artifact, *, allow_cpu_nodes: bool = False) -> None:
        # Texts differ in length: there are no two calls of one shape that a recording would serve.
        session, self.placement = open_cuda_session(
            onnxruntime, artifact.graph, captures=False, allow_cpu_nodes=allow_cpu_nodes
        )
        check_session(session, artifact.manifest.signature, provider=PROVIDER)
        super().__init__(NAME, artifact, partial(_run, session, output_of(artifact).name))


def _run(session: Any, output: str, feeds: dict[str, TokenIds]) -> Logits:
    try:
        return run_rows(session, output, feeds)
    except Exception as error:  # the package's errors share no class of their own
        rows, tokens = feeds[INPUT_IDS].shape
        raise not_run(error, rows=rows, tokens=tokens) from error
