"""The two libraries behind one name: `tensorrt`, which builds on the GPU it runs on, and `tensorrt_rtx`, which builds
anywhere, for the compute capabilities that are requested.

Both have the same Python interface, so that everything else takes a `Library` and asks it what differs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.machine.gpu import GpuProbe, probe_gpus

Capability = tuple[int, int]
RTX = "tensorrt-rtx"
# backend -> module
MODULES = {"tensorrt": "tensorrt", RTX: "tensorrt_rtx"}


@dataclass(frozen=True, kw_only=True)
class Library:
    """An imported library: ``name`` is the backend's, ``module`` the Python module."""

    name: str
    module: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        return self.name == RTX

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """The compute capabilities that plans can be built for ahead of time; none where it takes the GPU itself."""
        if not self.is_rtx:
            return ()
        numbers = sorted(
            int(name.removeprefix("SM")) for name in self.module.ComputeCapability.__members__ if "SM" in name
        )
        return tuple(divmod(number, 10) for number in numbers)


def import_library(
    name: str,
    *,
    probe: Callable[[], GpuProbe] = probe_gpus,
    importer: Callable[[str], Any] = importlib.import_module,
) -> Library:
    """Import the library of a backend.

    Args:
        name: one of `MODULES`.
        probe: asks the driver for GPUs. It comes first: without a driver some builds of TensorRT crash while they are
            imported (tensorrt-lean), where TensorRT-RTX does not.
        importer: imports a module by its name.

    Raises:
        MissingDependencyError: it is not installed.
        InputError: it needs a driver, or cannot be loaded.
    """
    if name not in MODULES:
        raise InputError(
            "There are no plans for this backend", received=name, allowed=", ".join(MODULES), fix="Choose one of these."
        )
    if name != RTX:
        gpus = probe()
        if not gpus.devices:
            raise InputError(
                "TensorRT needs the GPU that its plan is for",
                received=gpus.problem or "no GPU",
                allowed="a machine with an NVIDIA GPU and its driver",
                fix=f"Run this there, or build ahead of time with --backend {RTX} --compute-capability 8.6.",
            )
    try:
        return Library(name=name, module=importer(MODULES[name]))
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or name, extra=name, needed_for=f"The backend {name}") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"The library of the backend {name} cannot be loaded",
            received=str(error).splitlines()[0] if str(error) else type(error).__name__,
            allowed="an installed library that fits this machine",
            fix=f"Install it again: pip install --force-reinstall 'jisu[{name}]'.",
        ) from error


def check_capabilities(library: Library, requested: tuple[Capability, ...]) -> None:
    """Raise InputError for compute capabilities that the library has no plans for."""
    unknown = [one for one in requested if one not in library.capabilities]
    if not unknown:
        return
    if not library.is_rtx:
        raise InputError(
            "TensorRT builds for the GPU of this machine",
            received=f"--compute-capability {spelled(unknown)}",
            allowed="no --compute-capability",
            fix=f"Leave it out, or build with --backend {RTX}.",
        )
    raise InputError(
        f"TensorRT-RTX {library.version} has no plans for compute capability {spelled(unknown)}",
        received=f"--compute-capability {spelled(requested)}",
        allowed=spelled(library.capabilities),
        fix="Leave it out. H100 and H200 (9.0) run `ort-cuda` and `tensorrt`.",
    )


def spelled(capabilities: tuple[Capability, ...] | list[Capability]) -> str:
    """``8.6, 8.9``"""
    return ", ".join(f"{major}.{minor}" for major, minor in capabilities)
