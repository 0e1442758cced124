"""Opens an artifact on the GPU of this machine: finds its plan, or builds it, and runs it."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from exporter.artifact import TASKS, Artifact
from exporter.errors import InputError
from runtimes.backend import Backend
from runtimes.gpu import probe_gpus
from runtimes.tensorrt.backend import PlanBackend
from runtimes.tensorrt.build import build_plan, check_artifact, plan_key
from runtimes.tensorrt.library import import_library
from runtimes.tensorrt.plan_file import read_plan
from runtimes.tensorrt.plan_targets import default_folder, plan_targets
from runtimes.tensorrt.profiles import default_shapes


def open_plan(artifact: Artifact, *, threads: int | None, source: Any, name: str) -> Backend:
    """Open an artifact's plan for the first GPU, one of the shapes that `jisu build` gives without options.

    Raises:
        ImportError: cuda-python is not installed.
        InputError: no GPU, one that the library has no plans for, or a graph that it refuses.
    """
    check_artifact(artifact)
    if artifact.manifest.task != TASKS[0] or not artifact.manifest.signature.state:
        raise InputError(
            f"The backend {name} does not run {artifact.folder}",
            received=f"a model for {artifact.manifest.task}",
            allowed=f"a model for {TASKS[0]} that carries a state from token to token",
            fix="Choose --backend ort-cpu.",
        )
    gpus = probe_gpus()
    if not gpus.devices:
        raise InputError(
            f"The backend {name} needs an NVIDIA GPU",
            received=gpus.problem or "no GPU",
            allowed="a GPU with its driver",
            fix="Run it where there is one, or choose --backend ort-cpu.",
        )
    library = import_library(name)
    cuda = importlib.import_module("cuda.bindings.runtime")
    shapes, folder = default_shapes(artifact), default_folder(artifact)
    ((target, capability),) = plan_targets(library, ())
    built = build_plan(artifact, library, folder, target=target, capability=capability, shapes=shapes)
    plan = read_plan(built.path, plan_key(artifact, library, target=target, shapes=shapes))
    return PlanBackend(library, plan, artifact, shapes=shapes, cuda=cuda)


open_tensorrt = partial(open_plan, name="tensorrt")
open_tensorrt_rtx = partial(open_plan, name="tensorrt-rtx")
