"""What this machine is: CPU, memory, disk, packages, GPU. Facts only; `runtimes.machine.doctor` judges them.

No probe raises: what a machine does not tell is None ("unknown").
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from jisu.runtimes.machine.cgroup import cgroup_cpus, cgroup_memory
from jisu.runtimes.machine.gpu import GpuProbe, probe_gpus

# Every distribution that decides what can run here, in the order shown.
PACKAGES = (
    "jisu",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-genai",
    "onnxruntime-genai-cuda",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "polygraphy",
    "cuda-python",
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "gguf",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "sentencepiece",
    "tokenizers",
    "jinja2",
    "pillow",
    "soundfile",
    "soxr",
    "numpy",
    "psutil",
    "rich",
)

# feature -> any of these flags of /proc/cpuinfo means that it is there
CPU_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "avx512_bf16": ("avx512_bf16",),
    "amx_tile": ("amx_tile",),
    "amx_int8": ("amx_int8",),
    "amx_bf16": ("amx_bf16",),
    "neon_dotprod": ("asimddp",),
    "neon_i8mm": ("i8mm",),
}

ORT_PROBE = """
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
onnxruntime = import_onnxruntime()
providers = onnxruntime.get_available_providers()
print('providers:' + ','.join(providers))
from jisu.runtimes.machine.int8_sums import int8_sums_overflow
print('int8_overflow:' + ('yes' if int8_sums_overflow() else 'no'))
if 'CUDAExecutionProvider' in providers:
    from jisu.runtimes.backends.ort_cuda.cuda_libraries import missing_libraries
    print('missing:' + ','.join(missing_libraries(onnxruntime)))
"""
ORT_PROBE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class OrtProbe:
    """What `import onnxruntime` gave in a process of its own: its providers, or why it failed.

    ``missing`` are libraries of CUDA that a provider for GPUs would need and that are not here. ``int8_overflow``: see
    `runtimes.machine.int8_sums`; None is unknown.
    """

    providers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    int8_overflow: bool | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine as found. Sizes in bytes; None is unknown, for a limit it is none."""

    python: str
    system: str
    cpu: str | None
    cpu_features: dict[str, bool] | None
    cores: int
    cpu_limit: float | None
    memory: int | None
    memory_free: int | None
    memory_limit: int | None
    disk_folder: str
    disk_free: int | None
    packages: dict[str, str] = field(default_factory=dict)
    ort: OrtProbe = field(default_factory=OrtProbe)
    gpu: GpuProbe = field(default_factory=GpuProbe)


def probe_machine(folder: Path | None = None) -> Machine:
    """Look at this machine; ``folder`` is where artifacts would be written (the current folder when None)."""
    folder = Path.cwd() if folder is None else folder
    packages = installed_packages()
    memory, memory_free = memory_sizes()
    limit, used = cgroup_memory()
    if limit is not None and memory_free is not None:
        memory_free = min(memory_free, max(0, limit - (used or 0)))
    text = _text(Path("/proc/cpuinfo"))
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(text),
        cpu_features=cpu_features(text),
        cores=usable_cores(),
        cpu_limit=cgroup_cpus(),
        memory=memory,
        memory_free=memory_free,
        memory_limit=limit,
        disk_folder=str(folder),
        disk_free=free_disk(folder),
        packages=packages,
        ort=probe_onnxruntime() if any(name.startswith("onnxruntime") for name in packages) else OrtProbe(),
        gpu=probe_gpus(),
    )


def installed_packages() -> dict[str, str]:
    """Versions of the `PACKAGES` that are installed, from their metadata; nothing is imported."""
    from importlib import metadata

    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            # A half-removed package has metadata without a version.
            versions[name] = metadata.version(name) or "unknown"
    return versions


def cpu_name(cpuinfo: str | None) -> str | None:
    """The CPU's name from the text of /proc/cpuinfo."""
    for line in (cpuinfo or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def cpu_features(cpuinfo: str | None) -> dict[str, bool] | None:
    """Which `CPU_FEATURES` the first processor of /proc/cpuinfo has; None where there is no such text."""
    for line in (cpuinfo or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86 and ARM spell it differently
            flags = set(value.split())
            return {name: any(flag in flags for flag in names) for name, names in CPU_FEATURES.items()}
    return None


def usable_cores() -> int:
    """Cores that this process may use (its affinity), not those the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_sizes() -> tuple[int | None, int | None]:
    """Bytes of memory in all, and available."""
    try:
        import psutil

        memory = psutil.virtual_memory()
    except (ImportError, OSError, RuntimeError):
        return None, None
    return int(memory.total), int(memory.available)


def free_disk(folder: Path) -> int | None:
    """Bytes free where ``folder`` is, or where its nearest existing parent is."""
    for candidate in (folder.absolute(), *folder.absolute().parents):
        if candidate.is_dir():
            with contextlib.suppress(OSError):
                return shutil.disk_usage(candidate).free
    return None


def probe_onnxruntime(code: str = ORT_PROBE) -> OrtProbe:
    """Import onnxruntime in another process: a broken library may end the process that loads it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ORT_PROBE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return OrtProbe(problem=f"it could not be tried: {error}")
    if done.returncode < 0:
        return OrtProbe(problem=f"importing it ended the process with signal {-done.returncode}")
    providers, missing = (_answer(done.stdout, name) for name in ("providers", "missing"))
    if done.returncode or not providers:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        return OrtProbe(problem=f"importing it failed: {said[-1]}")
    [overflow] = _answer(done.stdout, "int8_overflow") or ("",)
    known = {"yes": True, "no": False}
    return OrtProbe(providers=providers, missing=missing, int8_overflow=known.get(overflow))


def _answer(output: str, name: str) -> tuple[str, ...]:
    """The last line ``name:a,b`` of what a probe printed; nothing where there is none."""
    lines = [line.removeprefix(f"{name}:") for line in output.splitlines() if line.startswith(f"{name}:")]
    return tuple(item for item in lines[-1].split(",") if item) if lines else ()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
