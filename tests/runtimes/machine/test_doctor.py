"""Every verdict names the exact obstacle and the exact line that removes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jisu.runtimes.machine.doctor import (
    BACKEND_NAMES,
    ORT_PACKAGES,
    BackendVerdict,
    diagnose,
    find_clashes,
    judge_backend,
    judge_builder,
    judge_fit,
)
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from jisu.runtimes.machine.model_size import ModelSize
from jisu.runtimes.machine.probe import Machine, OrtProbe

CPU_MACHINE = Machine(
    python="3.11.7",
    system="Linux x86_64",
    cpu="Test CPU",
    cpu_features={"avx2": True},
    cores=2,
    cpu_limit=None,
    memory=8_000,
    memory_free=4_000,
    memory_limit=None,
    disk_folder="/somewhere",
    disk_free=1_000,
    packages={"onnxruntime": "1.32.0", "torch": "2.13.0", "transformers": "5.23.0"},
    ort=OrtProbe(providers=("CPUExecutionProvider",)),
    gpu=GpuProbe(problem="no NVIDIA driver: libcuda.so.1 is not here"),
)
GPU = Gpu(name="Test GPU", memory=24 << 30, compute_capability=(8, 9))
GPU_MACHINE = replace(
    CPU_MACHINE,
    packages={"onnxruntime-gpu": "1.31.1", "tensorrt": "11.4", "tensorrt-rtx-cu13": "1.7.1"},
    ort=OrtProbe(providers=("CUDAExecutionProvider", "CPUExecutionProvider")),
    gpu=GpuProbe(devices=(GPU,), driver_cuda=(13, 0)),
)
SMALL = ModelSize(what="a model", run_memory=3_000, export_memory=4_000, export_disk=1_000)


def judge(name: str, machine: Machine) -> BackendVerdict:
    return judge_backend(name, machine, implemented=BACKEND_NAMES)


@pytest.mark.parametrize(
    ("machine", "ready"),
    [(CPU_MACHINE, {"ort-cpu", "torch"}), (GPU_MACHINE, {"ort-cpu", "ort-cuda", "tensorrt", "tensorrt-rtx"})],
    ids=["cpu", "gpu"],
)
def test_backends_are_ready_where_all_is_there(machine: Machine, ready: set[str]) -> None:
    verdicts = diagnose(machine, implemented=BACKEND_NAMES).backends
    assert tuple(verdict.name for verdict in verdicts) == BACKEND_NAMES
    assert {verdict.name for verdict in verdicts if verdict.ready} == ready
    assert all(verdict.reason for verdict in verdicts if not verdict.ready)


def test_backend_that_this_version_lacks_is_not_ready() -> None:
    verdict = judge_backend("tensorrt", GPU_MACHINE, implemented=("ort-cpu",))
    assert not verdict.ready
    assert verdict.reason == "not part of this version of jisu; the machine has what it needs"
    assert verdict.install is None


def test_backend_that_this_version_lacks_is_said_before_what_the_machine_lacks() -> None:
    verdict = judge_backend("ort-cuda", replace(GPU_MACHINE, packages={}), implemented=("ort-cpu",))
    assert verdict.reason == "not part of this version of jisu; onnxruntime-gpu is not installed"
    assert verdict.install is None


def test_every_backend_is_there_or_planned() -> None:
    from jisu.runtimes.backends.registry import BACKENDS

    assert set(BACKENDS) == set(BACKEND_NAMES)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("ort-cpu", "cpu"),
        ("ort-cuda", "cuda"),
        ("tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt-rtx"),
        ("torch", "export"),
    ],
)
def test_missing_package_gives_its_install_line(name: str, extra: str) -> None:
    verdict = judge(name, replace(GPU_MACHINE, packages={}, ort=OrtProbe()))
    assert not verdict.ready
    assert "not installed" in (verdict.reason or "")
    assert verdict.install == f"pip install 'jisu[{extra}]'"


@pytest.mark.parametrize("name", ["ort-cuda", "tensorrt", "tensorrt-rtx"])
def test_gpu_backends_name_the_missing_driver_first(name: str) -> None:
    verdict = judge(name, CPU_MACHINE)
    assert not verdict.ready
    assert verdict.reason == "no NVIDIA driver: libcuda.so.1 is not here"
    assert verdict.install is None


def test_two_onnxruntimes_clash_and_stop_every_ort_backend() -> None:
    machine = replace(GPU_MACHINE, packages={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    diagnosis = diagnose(machine, implemented=BACKEND_NAMES)
    assert len(diagnosis.clashes) == 1
    assert "onnxruntime and onnxruntime-gpu" in diagnosis.clashes[0].problem
    fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'jisu[cuda]'"
    assert diagnosis.clashes[0].fix == fix
    for verdict in diagnosis.backends[:2]:
        assert not verdict.ready
        assert verdict.install == fix
    assert diagnosis.exit_code == 2


@pytest.mark.parametrize("name", ORT_PACKAGES)
def test_one_onnxruntime_alone_is_no_clash(name: str) -> None:
    assert find_clashes({name: "1.31", "onnxruntime-genai": "0.18", "torch": "2.13"}) == []


def test_cpu_package_has_to_make_room_for_cuda() -> None:
    verdict = judge("ort-cuda", replace(GPU_MACHINE, packages={"onnxruntime": "1.32.0"}))
    assert verdict.install == "pip uninstall -y onnxruntime && pip install 'jisu[cuda]'"


def test_old_onnxruntime_is_named_with_both_versions() -> None:
    verdict = judge("ort-cpu", replace(CPU_MACHINE, packages={"onnxruntime": "1.9.3"}))
    assert verdict.reason == "onnxruntime 1.9.3 is older than 1.30"
    assert verdict.install == "pip install -U 'jisu[cpu]'"


def test_broken_onnxruntime_shows_what_it_said() -> None:
    verdict = judge("ort-cpu", replace(CPU_MACHINE, ort=OrtProbe(problem="importing it failed: libfoo.so")))
    assert "libfoo.so" in (verdict.reason or "")
    assert verdict.install == "pip install --force-reinstall --no-deps onnxruntime==1.32.0"


def test_missing_provider_is_named_with_those_there() -> None:
    verdict = judge("ort-cuda", replace(GPU_MACHINE, ort=OrtProbe(providers=("CPUExecutionProvider",))))
    assert "no CUDAExecutionProvider" in (verdict.reason or "")
    assert "CPUExecutionProvider" in (verdict.reason or "")


def test_libraries_of_cuda_that_are_not_here() -> None:
    ort = replace(GPU_MACHINE.ort, missing=("libcublasLt.so.13", "libcublas.so.13"))
    verdict = judge("ort-cuda", replace(GPU_MACHINE, ort=ort))
    assert "libcublasLt.so.13, libcublas.so.13" in (verdict.reason or "")
    assert verdict.install == "pip install 'jisu[cuda]'"


@pytest.mark.parametrize("name", ["ort-cuda", "tensorrt", "tensorrt-rtx"])
def test_driver_too_old_for_the_cuda_packages(name: str) -> None:
    verdict = judge(name, replace(GPU_MACHINE, gpu=GpuProbe(devices=(GPU,), driver_cuda=(12, 8))))
    assert "CUDA 12.8" in (verdict.reason or "")
    assert "update the NVIDIA driver" in (verdict.reason or "")


def test_tensorrt_rtx_refuses_a_data_centre_gpu() -> None:
    hopper = replace(GPU, compute_capability=(9, 0))
    verdict = judge("tensorrt-rtx", replace(GPU_MACHINE, gpu=GpuProbe(devices=(hopper,), driver_cuda=(13, 0))))
    assert "found compute capability 9.0" in (verdict.reason or "")


def test_torch_names_all_that_is_missing() -> None:
    assert judge("torch", GPU_MACHINE).reason == "torch and transformers are not installed"
    assert judge("torch", replace(CPU_MACHINE, packages={"torch": "2"})).reason == "transformers is not installed"


def test_fit_compares_each_need_with_what_is_free() -> None:
    assert [fit.fits for fit in judge_fit(CPU_MACHINE, SMALL)] == [True, True, True]
    assert [fit.fits for fit in judge_fit(replace(CPU_MACHINE, memory_free=3_999), SMALL)] == [True, False, True]
    assert [fit.fits for fit in judge_fit(replace(CPU_MACHINE, disk_free=999), SMALL)] == [True, True, False]
    assert [fit.fits for fit in judge_fit(replace(CPU_MACHINE, memory_free=None), SMALL)] == [None, None, True]


def test_artifact_needs_memory_only() -> None:
    artifact = ModelSize(what="an artifact", run_memory=3_000, export_memory=None, export_disk=None)
    assert len(judge_fit(CPU_MACHINE, artifact)) == 1


def test_exit_code_is_0_only_when_ort_cpu_is_ready_and_the_model_fits() -> None:
    assert diagnose(CPU_MACHINE, implemented=BACKEND_NAMES, model=SMALL).exit_code == 0
    assert diagnose(replace(CPU_MACHINE, memory_free=1), implemented=BACKEND_NAMES, model=SMALL).exit_code == 2
    assert diagnose(replace(CPU_MACHINE, memory_free=None), implemented=BACKEND_NAMES, model=SMALL).exit_code == 0
    assert diagnose(replace(CPU_MACHINE, packages={}), implemented=BACKEND_NAMES).exit_code == 2


def test_diagnosis_is_json() -> None:
    diagnosis = diagnose(CPU_MACHINE, implemented=BACKEND_NAMES, model=SMALL)
    data = json.loads(json.dumps(diagnosis.to_dict()))
    assert data["backends"][0] == {"name": "ort-cpu", "ready": True, "reason": None, "install": None}
    assert data["machine"]["cpu_features"] == {"avx2": True}
    assert data["fits"][0]["fits"] is True
    assert data["exit_code"] == 0


def test_plans_of_rtx_are_built_without_a_gpu() -> None:
    machine = replace(CPU_MACHINE, packages={**CPU_MACHINE.packages, "tensorrt-rtx-cu13": "1.7.1"})
    verdict = judge_builder("tensorrt-rtx", machine)
    assert verdict.ready
    assert "8.6, 8.9, 12.0" in (verdict.reason or "")
    assert judge_builder("tensorrt-rtx", CPU_MACHINE).install == "pip install 'jisu[tensorrt-rtx]'"
    assert judge_builder("tensorrt", machine).reason == "no NVIDIA driver: libcuda.so.1 is not here"
