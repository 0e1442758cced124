"""What every backend for GPUs asks of a machine before a library is loaded that would crash without it."""

from __future__ import annotations

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.machine.gpu import Gpu, GpuProbe

CUDA_MAJOR = 13  # that onnxruntime-gpu from PyPI is built for since 1.31, and TensorRT's packages for CUDA 13


def require_gpu(gpus: GpuProbe, *, backend: str) -> Gpu:
    """The GPU to run on; raises InputError where there is none, or its driver is too old."""
    if not gpus.devices:
        raise InputError(
            f"The backend {backend} needs an NVIDIA GPU",
            received=gpus.problem or "no GPU",
            allowed="a GPU with its driver",
            fix="Run it where there is one, or choose --backend ort-cpu.",
        )
    if gpus.driver_cuda is not None and gpus.driver_cuda[0] < CUDA_MAJOR:
        raise InputError(
            f"The NVIDIA driver is too old for the backend {backend}",
            received=f"CUDA {gpus.driver_cuda[0]}.{gpus.driver_cuda[1]}",
            allowed=f"CUDA {CUDA_MAJOR} or newer",
            fix="Update the driver.",
        )
    return gpus.devices[0]


def require_type(gpu: Gpu, precision: str) -> None:
    """Raise InputError where a GPU has no arithmetic of this precision."""
    if precision == "bf16" and gpu.compute_capability < (8, 0):
        major, minor = gpu.compute_capability
        raise InputError(
            f"{gpu.name} is too old for bf16",
            received=f"compute capability {major}.{minor}",
            allowed="8.0 or newer",
            fix="Export the model in fp16.",
        )
