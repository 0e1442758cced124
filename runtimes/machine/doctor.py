"""Judges a machine: which packages clash, which backends can run, and whether a given model fits.

It works on a `Machine` and a `ModelSize`, so every verdict can be tried without the machine it speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from jisu.runtimes.machine.gpu_needs import CUDA_MAJOR
from jisu.runtimes.machine.model_size import ModelSize
from jisu.runtimes.machine.probe import Machine

BACKEND_NAMES = ("ort-cpu", "ort-cuda", "tensorrt", "tensorrt-rtx", "torch")
# Each of these brings the same folder `onnxruntime`; two of them overwrite each other's files.
ORT_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
TENSORRT_RTX_PACKAGES = ("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13")
# The compute capabilities that TensorRT-RTX 1.7 accepts at build time, found by trying; 9.0 (H100, H200) is not there.
TENSORRT_RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
MIN_ORT = (1, 30)


@dataclass(frozen=True, kw_only=True)
class Clash:
    """Packages that break each other, and the lines that mend it."""

    problem: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class BackendVerdict:
    """One backend: ready, or the reason why not and the command that changes it (None when no command can)."""

    name: str
    ready: bool
    reason: str | None = None
    install: str | None = None


@dataclass(frozen=True, kw_only=True)
class FitVerdict:
    """Whether a model fits: bytes needed and available (None: unknown, then ``fits`` is None too)."""

    what: str
    needed: int
    available: int | None

    @property
    def fits(self) -> bool | None:
        return None if self.available is None else self.needed <= self.available


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All verdicts on one machine. ``plans`` tell which of TensorRT's libraries can build plans here."""

    machine: Machine
    clashes: tuple[Clash, ...]
    backends: tuple[BackendVerdict, ...]
    plans: tuple[BackendVerdict, ...]
    fits: tuple[FitVerdict, ...]

    @property
    def exit_code(self) -> int:
        """0 when ``ort-cpu`` is ready, nothing clashes and the given model is not known to be too large; else 2."""
        ready = any(backend.name == "ort-cpu" and backend.ready for backend in self.backends)
        return 0 if ready and not self.clashes and all(fit.fits is not False for fit in self.fits) else 2

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "fits": [{**asdict(fit), "fits": fit.fits} for fit in self.fits],
            "exit_code": self.exit_code,
        }


def diagnose(machine: Machine, *, implemented: Collection[str], model: ModelSize | None = None) -> Diagnosis:
    """Judge a machine.

    Args:
        machine: what was found.
        implemented: the backends that this version of jisu can open.
        model: what should run or be exported here; None when no model was named.
    """
    return Diagnosis(
        machine=machine,
        clashes=tuple(find_clashes(machine.packages)),
        backends=tuple(judge_backend(name, machine, implemented=implemented) for name in BACKEND_NAMES),
        plans=(judge_builder("tensorrt", machine), judge_builder("tensorrt-rtx", machine)),
        fits=tuple(judge_fit(machine, model)) if model else (),
    )


def find_clashes(packages: dict[str, str]) -> list[Clash]:
    """Packages among ``packages`` (name -> version) that cannot share one environment."""
    ort = [name for name in ORT_PACKAGES if name in packages]
    if len(ort) < 2:
        return []
    keep = "cuda" if "onnxruntime-gpu" in ort else "cpu"
    return [
        Clash(
            problem=f"{' and '.join(ort)} are installed together and overwrite each other's files",
            fix=f"pip uninstall -y {' '.join(ort)} && pip install 'jisu[{keep}]'",
        )
    ]


def judge_backend(name: str, machine: Machine, *, implemented: Collection[str]) -> BackendVerdict:
    """Whether one of `BACKEND_NAMES` can run on this machine; the first obstacle found is the reason."""
    judge = {
        "ort-cpu": _judge_ort_cpu,
        "ort-cuda": _judge_ort_cuda,
        "tensorrt": _judge_tensorrt,
        "tensorrt-rtx": _judge_tensorrt_rtx,
        "torch": _judge_torch,
    }[name]
    verdict = judge(machine)
    if name in implemented:
        return verdict
    # No install line: it would install what nothing here uses.
    return _blocked(name, f"not part of this version of jisu; {verdict.reason or 'the machine has what it needs'}")


def judge_builder(name: str, machine: Machine) -> BackendVerdict:
    """Whether plans of ``tensorrt`` or ``tensorrt-rtx`` can be built here; the latter takes no GPU."""
    if name == "tensorrt":
        return _judge_tensorrt(machine)
    if not any(package in machine.packages for package in TENSORRT_RTX_PACKAGES):
        return _blocked(name, "tensorrt-rtx is not installed", _pip(name))
    return BackendVerdict(
        name=name, ready=True, reason=f"for compute capability {_capabilities(TENSORRT_RTX_CAPABILITIES)}"
    )


def judge_fit(machine: Machine, model: ModelSize) -> list[FitVerdict]:
    """Compare what a model needs with the free memory and disk."""
    needs = [(f"memory to run {model.what}", model.run_memory, machine.memory_free)]
    if model.export_memory is not None:
        needs.append(("memory to export it", model.export_memory, machine.memory_free))
    if model.export_disk is not None:
        needs.append((f"disk to export it to {machine.disk_folder}", model.export_disk, machine.disk_free))
    return [FitVerdict(what=what, needed=needed, available=available) for what, needed, available in needs]


def _judge_ort_cpu(machine: Machine) -> BackendVerdict:
    obstacle = _ort_obstacle("ort-cpu", machine, packages=ORT_PACKAGES, provider="CPUExecutionProvider", extra="cpu")
    return obstacle or BackendVerdict(name="ort-cpu", ready=True)


def _judge_ort_cuda(machine: Machine) -> BackendVerdict:
    name = "ort-cuda"
    if (obstacle := _gpu_obstacle(name, machine)) is not None:
        return obstacle
    if "onnxruntime" in machine.packages and "onnxruntime-gpu" not in machine.packages:
        return _blocked(
            name,
            "onnxruntime is the CPU package; it has to make room for onnxruntime-gpu",
            "pip uninstall -y onnxruntime && pip install 'jisu[cuda]'",
        )
    packages = ("onnxruntime-gpu",)
    obstacle = _ort_obstacle(name, machine, packages=packages, provider="CUDAExecutionProvider", extra="cuda")
    if obstacle is None and machine.ort.missing:
        missing = f"libraries of CUDA {CUDA_MAJOR} are not here: {', '.join(machine.ort.missing)}"
        obstacle = _blocked(name, missing, _pip("cuda"))
    return obstacle or BackendVerdict(name=name, ready=True)


def _judge_tensorrt(machine: Machine) -> BackendVerdict:
    name = "tensorrt"
    if (obstacle := _gpu_obstacle(name, machine)) is not None:
        return obstacle
    if not any(package in machine.packages for package in TENSORRT_PACKAGES):
        return _blocked(name, "tensorrt is not installed", _pip("tensorrt"))
    return BackendVerdict(name=name, ready=True)


def _judge_tensorrt_rtx(machine: Machine) -> BackendVerdict:
    name = "tensorrt-rtx"
    if (obstacle := _gpu_obstacle(name, machine)) is not None:
        return obstacle
    capabilities = [gpu.compute_capability for gpu in machine.gpu.devices]
    if not any(capability in TENSORRT_RTX_CAPABILITIES for capability in capabilities):
        return _blocked(
            name,
            f"no GPU that TensorRT-RTX runs on: found compute capability {_capabilities(capabilities)}, "
            f"it takes {_capabilities(TENSORRT_RTX_CAPABILITIES)}",
        )
    if not any(package in machine.packages for package in TENSORRT_RTX_PACKAGES):
        return _blocked(name, "tensorrt-rtx is not installed", _pip("tensorrt-rtx"))
    return BackendVerdict(name=name, ready=True)


def _judge_torch(machine: Machine) -> BackendVerdict:
    missing = [package for package in ("torch", "transformers") if package not in machine.packages]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        return _blocked("torch", f"{' and '.join(missing)} {are} not installed", _pip("export"))
    return BackendVerdict(name="torch", ready=True)


def _ort_obstacle(
    name: str, machine: Machine, *, packages: tuple[str, ...], provider: str, extra: str
) -> BackendVerdict | None:
    installed = [package for package in packages if package in machine.packages]
    if not installed:
        return _blocked(name, f"{packages[0]} is not installed", _pip(extra))
    if clashes := find_clashes(machine.packages):
        return _blocked(name, clashes[0].problem, clashes[0].fix)
    version = machine.packages[installed[0]]
    if _is_older(version, MIN_ORT):
        minimum = ".".join(map(str, MIN_ORT))
        return _blocked(name, f"{installed[0]} {version} is older than {minimum}", f"pip install -U 'jisu[{extra}]'")
    again = f"pip install --force-reinstall --no-deps {installed[0]}=={version}"
    if machine.ort.problem is not None:
        return _blocked(name, f"{installed[0]} is installed but broken: {machine.ort.problem}", again)
    if provider not in machine.ort.providers:
        has = ", ".join(machine.ort.providers) or "none"
        return _blocked(name, f"{installed[0]} {version} has no {provider}; its providers: {has}", again)
    return None


def _gpu_obstacle(name: str, machine: Machine) -> BackendVerdict | None:
    if not machine.gpu.devices:
        return _blocked(name, machine.gpu.problem or "no NVIDIA GPU was found")
    cuda = machine.gpu.driver_cuda
    if cuda is not None and cuda[0] < CUDA_MAJOR:
        return _blocked(
            name, f"the driver runs CUDA {cuda[0]}.{cuda[1]}, {name} needs CUDA {CUDA_MAJOR}; update the NVIDIA driver"
        )
    return None


def _blocked(name: str, reason: str, install: str | None = None) -> BackendVerdict:
    return BackendVerdict(name=name, ready=False, reason=reason, install=install)


def _pip(extra: str) -> str:
    return f"pip install 'jisu[{extra}]'"


def _capabilities(capabilities: Collection[tuple[int, int]]) -> str:
    return ", ".join(f"{major}.{minor}" for major, minor in capabilities)


def _is_older(version: str, minimum: tuple[int, int]) -> bool:
    """Compare major and minor only; a version that is no number is taken as new enough."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < minimum
