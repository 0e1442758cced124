"""The driver's answers become devices, and its failures a reason in words."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from jisu.runtimes.machine.gpu import Gpu, probe_gpus

MEMORY = 24 << 30


class Driver:
    """Stands for libcuda: writes through the pointers it is given, as the C functions do."""

    def __init__(self, *, devices: int = 1, failing: str | None = None, code: int = 999) -> None:
        self.devices = devices
        self.failing = failing
        self.code = code

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.failing:
                return self.code
            if name == "cuDeviceGetName":
                arguments[0].value = b"Test GPU"
            elif name == "cuDeviceGetAttribute":
                write(arguments[0], {75: 8, 76: 6}[arguments[1]])
            else:
                values = {
                    "cuDriverGetVersion": 13010,
                    "cuDeviceGetCount": self.devices,
                    "cuDeviceTotalMem_v2": 24 << 30,
                }
                if name in values:
                    write(arguments[0], values[name])
            return 0

        return call


def write(reference: Any, value: int) -> None:
    reference._obj.value = value


def test_devices_have_name_memory_and_capability() -> None:
    probe = probe_gpus(lambda _: Driver(devices=2))
    assert probe.devices == (Gpu(name="Test GPU", memory=MEMORY, compute_capability=(8, 6)),) * 2
    assert probe.driver_cuda == (13, 1)
    assert probe.problem is None


def test_no_library_means_no_driver() -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    probe = probe_gpus(missing)
    assert probe.devices == ()
    assert "no NVIDIA driver" in (probe.problem or "")


@pytest.mark.parametrize("function", ["cuInit", "cuDeviceGetCount", "cuDeviceTotalMem_v2"])
def test_failing_call_is_named_with_its_code(function: str) -> None:
    probe = probe_gpus(lambda _: Driver(failing=function))
    assert probe.devices == ()
    assert probe.problem == f"the NVIDIA driver answers {function} with error 999"


def test_driver_without_devices_says_so() -> None:
    assert probe_gpus(lambda _: Driver(devices=0)).problem == "the NVIDIA driver sees no device"


def test_library_that_is_no_driver_does_not_crash() -> None:
    assert "lacks a function" in (probe_gpus(lambda _: ctypes.CDLL(None)).problem or "")


def test_a_driver_that_starts_for_no_device_sees_none() -> None:
    probe = probe_gpus(lambda _: Driver(failing="cuInit", code=100))
    assert probe.problem == "the NVIDIA driver sees no device"
