"""What the markers ``cuda``, ``tensorrt`` and ``stand_in_gpu`` ask of a machine, and why this one has it not."""

from __future__ import annotations

import functools
import importlib.util
import os

NEEDS = ("cuda", "tensorrt", "stand_in_gpu")
# What the libraries of `tests/stand_in_gpu` call their device.
STAND_IN = "Stand-in that computes nothing"


@functools.cache
def missing(need: str) -> str | None:
    """Why tests with this marker cannot run here; None where they can."""
    from jisu.runtimes.machine.gpu import probe_gpus

    gpus = probe_gpus()
    pretended = any(gpu.name == STAND_IN for gpu in gpus.devices)
    if need == "stand_in_gpu":
        return None if pretended else "needs the stand-in for a GPU: make stand-in-gpu"
    if not gpus.devices or pretended:
        return f"needs an NVIDIA GPU: {gpus.problem or 'this one is a stand-in'}"
    if need == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return "needs onnxruntime-gpu: make gpu"
        return None
    return _without_tensorrt(gpus.devices[0].compute_capability)


def _without_tensorrt(capability: tuple[int, int]) -> str | None:
    if importlib.util.find_spec("cuda") is None:
        return "needs cuda-python: make gpu"
    if importlib.util.find_spec("tensorrt") is not None:
        return None
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return "needs TensorRT or TensorRT-RTX"
    from jisu.runtimes.backends.tensorrt.library import import_library, spelled

    known = import_library("tensorrt-rtx").capabilities
    return None if capability in known else f"TensorRT-RTX has no plans for compute capability {spelled([capability])}"


def is_required(need: str) -> bool:
    """Whether whoever started the tests wants a failure instead of a skip: ``REQUIRE=cuda,tensorrt``."""
    return need in os.environ.get("REQUIRE", "").split(",")
