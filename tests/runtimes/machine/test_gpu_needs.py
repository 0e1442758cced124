from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from jisu.runtimes.machine.gpu_needs import require_gpu, require_type


def gpus(*, capability=(9, 0), cuda=(13, 0)):
    device = Gpu(name="NVIDIA T4", memory=1 << 34, compute_capability=capability)
    return GpuProbe(devices=(device,), driver_cuda=cuda)


def test_no_gpu_and_an_old_driver_are_told_apart():
    assert require_gpu(gpus(), backend="tensorrt").name == "NVIDIA T4"
    with pytest.raises(InputError, match="tensorrt needs an NVIDIA GPU.*sees no device.*--backend ort-cpu"):
        require_gpu(GpuProbe(problem="the NVIDIA driver sees no device"), backend="tensorrt")
    with pytest.raises(InputError, match="too old for the backend tensorrt-rtx.*CUDA 12.4.*13 or newer.*Update"):
        require_gpu(gpus(cuda=(12, 4)), backend="tensorrt-rtx")


def test_an_old_gpu_has_no_bf16():
    (old,) = gpus(capability=(7, 5)).devices
    with pytest.raises(InputError, match="NVIDIA T4 is too old for bf16.*7.5.*Export the model in fp16"):
        require_type(old, "bf16")
    require_type(old, "fp16")
