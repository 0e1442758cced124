"""Opens an artifact on ONNX Runtime's CUDA provider: a decoder, or an encoder with its decoder."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort_cuda.backend import OrtCudaBackend
from jisu.runtimes.backends.ort_cuda.encoder import OrtCudaEncoderBackend
from jisu.runtimes.backends.ort_cuda.session import NAME, onnxruntime_for_gpu


def open_ort_cuda(artifact: Artifact, *, threads: int | None, source: Any, allow_cpu_nodes: bool = False) -> Backend:
    """Open an artifact's graph on the GPU; ``threads`` and ``source`` are not needed.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: no GPU or driver, the package for CPUs, a damaged graph, or nodes that would not run on the GPU.
    """
    manifest = artifact.manifest
    if not manifest.signature.state:
        raise InputError(
            f"The backend {NAME} does not run {artifact.folder}",
            received="a model without a state",
            allowed="a model that carries a state from token to token",
            fix="Choose --backend ort-cpu.",
        )
    check_kernels(artifact)  # of operators that have none on a GPU
    package = onnxruntime_for_gpu(manifest.precision)
    if manifest.signature.encoded:
        return OrtCudaEncoderBackend(package, artifact, allow_cpu_nodes=allow_cpu_nodes)
    return OrtCudaBackend(package, artifact, allow_cpu_nodes=allow_cpu_nodes)
