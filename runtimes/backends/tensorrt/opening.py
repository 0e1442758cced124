"""Opens an artifact on the GPU of this machine: finds its plan, or builds it, and runs it."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Backend
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.one_pass_backend import OnePassBackend
from jisu.runtimes.backends.tensorrt.backend import PlanBackend
from jisu.runtimes.backends.tensorrt.build import build_plans, check_artifact, plan_key
from jisu.runtimes.backends.tensorrt.encoder import open_encoder_decoder
from jisu.runtimes.backends.tensorrt.library import Library, import_library
from jisu.runtimes.backends.tensorrt.one_pass import open_one_pass_plan
from jisu.runtimes.backends.tensorrt.packed_plan import unpack_plan
from jisu.runtimes.backends.tensorrt.plan_file import PLAN, part_path, plan_path, read_plan, read_record
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.plan_targets import default_folder, plan_targets
from jisu.runtimes.backends.tensorrt.profiles import Shapes, default_shapes
from jisu.runtimes.machine.gpu import probe_gpus
from jisu.runtimes.machine.gpu_needs import require_gpu, require_type

_CUDA = "cuda.bindings.runtime"


def open_plan(
    artifact: Artifact,
    *,
    threads: int | None,
    source: Any,
    name: str,
    plan: Path | None = None,
    capacity: int | None = None,
) -> Backend:
    """Open an artifact's plan, or its two, for the first GPU.

    Args:
        plan: a plan of `jisu build`, or the folder that it lies in: taken as it is and never built (an encoder's is
            found beside its decoder's). None takes the one of the shapes that `jisu build` gives without options, and
            builds it where it is missing.
        capacity: tokens of a row; None for the plan's own, or the default.

    Raises:
        ImportError: cuda-python is not installed.
        InputError: no GPU, one that the library has no plans for, a graph that it refuses, or a plan of something else.
    """
    check_artifact(artifact)
    if not artifact.manifest.signature.state:
        raise InputError(
            f"The backend {name} does not run {artifact.folder}",
            received="a model without a state",
            allowed="a model that carries a state from token to token",
            fix="Choose --backend ort-cpu.",
        )
    plans, opened = _opened(artifact, name=name, plan=plan, capacity=capacity)
    if artifact.manifest.signature.encoded:
        return open_encoder_decoder(plans=(plans[0], plans[1]), **opened)
    return PlanBackend(plan=plans[0], **opened)


def open_one_pass_plan_file(
    artifact: Artifact,
    *,
    threads: int | None,
    source: Any,
    name: str,
    plan: Path | None = None,
    capacity: int | None = None,
) -> OnePassBackend:
    """Open a classifier's plan for the first GPU; arguments and errors as for `open_plan`."""
    check_artifact(artifact)
    plans, opened = _opened(artifact, name=name, plan=plan, capacity=capacity)
    return open_one_pass_plan(plan=plans[0], **opened)


def _opened(
    artifact: Artifact, *, name: str, plan: Path | None, capacity: int | None
) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """The bytes of each graph's plan, and what else runs one: the library, the shapes, the module for the GPU."""
    library, plans, shapes = find_plans(artifact, name=name, plan=plan, capacity=capacity)
    cuda = importlib.import_module(_CUDA)
    return plans, {"library": library, "artifact": artifact, "shapes": shapes, "cuda": cuda}


def find_plans(
    artifact: Artifact, *, name: str, plan: Path | None = None, capacity: int | None = None
) -> tuple[Library, tuple[bytes, ...], Shapes]:
    """The library, the bytes of each graph's plan for the first GPU, and what they were built for.

    Raises:
        InputError: as `open_plan` does.
    """
    require_type(require_gpu(probe_gpus(), backend=name), artifact.manifest.precision)
    library = import_library(name)
    importlib.import_module(_CUDA)  # where it is missing, before a plan is built for minutes
    ((target, capability),) = plan_targets(library, ())
    if plan is not None:
        path = _given_plan(plan, backend=name, target=target)
        shapes = _recorded_shapes(path, capacity)
    else:
        shapes = default_shapes(artifact, capacity=capacity)
        folder = default_folder(artifact)
        built = build_plans(artifact, library, folder, target=target, capability=capability, shapes=shapes, say=_say)
        path = built[0].path
    keys = {
        graph.part: plan_key(artifact, library, target=target, shapes=shapes, graph=graph)
        for graph in plan_graphs(artifact)
    }
    return library, tuple(unpack_plan(read_plan(part_path(path, part), key)) for part, key in keys.items()), shapes


def _say(line: str) -> None:
    """Of a build that takes minutes, to whoever only wanted an answer."""
    sys.stderr.write(f"{line}\n")


def _given_plan(place: Path, *, backend: str, target: str) -> Path:
    """The plan at a place that the user named; raises InputError when there is none for this GPU."""
    path = place if place.name.endswith(PLAN) else plan_path(place, backend=backend, target=target)
    if path.is_file():
        return path
    others = sorted(item.name for item in path.parent.glob(f"*{PLAN}"))
    raise InputError(
        f"There is no plan {path.name} in {path.parent}",
        received=f"a folder with {', '.join(others)}" if others else "a folder without plans",
        allowed=f"a plan of {backend} for {target}, the GPU here",
        fix=f"Build it: jisu build ARTIFACT --backend {backend} --out {path.parent}.",
    )


def _recorded_shapes(path: Path, capacity: int | None) -> Shapes:
    """What a plan was built for; raises InputError when that is not the capacity that was asked for."""
    try:
        recorded = read_record(path).key.get("shapes")
    except InputError as error:
        raise InputError(
            f"The plan {path} cannot be used",
            received=error,
            allowed=f"a plan with the record that `jisu build` wrote, {path.name}.json",
            fix="Bring both files, or build it again: jisu build ARTIFACT --backend NAME --out FOLDER.",
        ) from error
    try:
        shapes = Shapes(**recorded)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(
            f"The record of the plan {path} does not say its shapes",
            received=error,
            allowed="the record that `jisu build` wrote",
            fix="Build the plan again: jisu build ARTIFACT --backend NAME --out FOLDER.",
        ) from error
    if capacity is not None and capacity != shapes.capacity:
        raise InputError(
            f"The plan {path} has rows of another length",
            received=f"--capacity {capacity}",
            allowed=f"{shapes.capacity} tokens, what it was built for",
            fix=f"Leave --capacity out, or build another plan: jisu build ARTIFACT --capacity {capacity} --out FOLDER.",
        )
    return shapes


open_tensorrt = partial(open_plan, name="tensorrt")
open_tensorrt_rtx = partial(open_plan, name="tensorrt-rtx")
open_tensorrt_one_pass = partial(open_one_pass_plan_file, name="tensorrt")
open_tensorrt_rtx_one_pass = partial(open_one_pass_plan_file, name="tensorrt-rtx")
