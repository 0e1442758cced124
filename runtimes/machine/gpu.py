"""The NVIDIA GPUs of this machine, asked of the driver itself through libcuda; no CUDA toolkit or nvidia-smi needed.

The calls are those of the CUDA driver API (cuInit, cuDriverGetVersion, cuDeviceGet, cuDeviceGetName,
cuDeviceTotalMem_v2, cuDeviceGetAttribute). No context is created, so no GPU memory is taken.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
COMPUTE_CAPABILITY_MINOR = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
_NO_DEVICE = "the NVIDIA driver sees no device"
_NO_DEVICE_CODE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One device: memory in bytes, compute capability as (major, minor)."""

    name: str
    memory: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class GpuProbe:
    """What the driver said. ``driver_cuda`` is the newest CUDA version that the driver runs, as (major, minor)."""

    devices: tuple[Gpu, ...] = ()
    driver_cuda: tuple[int, int] | None = None
    problem: str | None = None


def probe_gpus(load_library: Callable[[str], Any] = ctypes.CDLL) -> GpuProbe:
    """Ask the driver for its devices; every failure becomes the probe's ``problem``."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = load_library(library)
    except OSError:
        return GpuProbe(problem=f"no NVIDIA driver: {library} is not here")
    try:
        return _ask(driver)
    except _NoDeviceError:
        return GpuProbe(problem=_NO_DEVICE)
    except _CudaError as error:
        return GpuProbe(problem=f"the NVIDIA driver answers {error}")
    except AttributeError as error:
        return GpuProbe(problem=f"the NVIDIA driver lacks a function: {error}")


class _CudaError(Exception):
    """A driver call that returned another code than CUDA_SUCCESS."""


class _NoDeviceError(Exception):
    """What it says of itself where there is none, or where CUDA_VISIBLE_DEVICES hides all."""


def _ask(driver: Any) -> GpuProbe:
    _call(driver, "cuInit", 0)
    version = ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    devices = tuple(_device(driver, index) for index in range(count.value))
    return GpuProbe(
        devices=devices,
        driver_cuda=(version.value // 1000, version.value % 1000 // 10),
        problem=None if devices else _NO_DEVICE,
    )


def _device(driver: Any, index: int) -> Gpu:
    handle = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(handle), index)
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, len(name), handle)
    memory = ctypes.c_size_t()
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    capability = []
    for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        capability.append(value.value)
    return Gpu(
        name=name.value.decode("utf-8", "replace"),
        memory=memory.value,
        compute_capability=(capability[0], capability[1]),
    )


def _call(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code == _NO_DEVICE_CODE:
        raise _NoDeviceError
    if code != 0:
        raise _CudaError(f"{function} with error {code}")
