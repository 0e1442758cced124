"""Which plans are wanted, for named compute capabilities or the GPU of this machine, and where they lie."""

from __future__ import annotations

from pathlib import Path

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.build import target_of
from jisu.runtimes.backends.tensorrt.library import Capability, Library, spelled
from jisu.runtimes.backends.tensorrt.plan_file import graph_hashes
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.machine.gpu import probe_gpus


def plan_targets(library: Library, requested: tuple[Capability, ...]) -> list[tuple[str, Capability | None]]:
    """(name, compute capability) of each plan; without a choice the one for the GPU of this machine.

    Raises:
        InputError: nothing was chosen and there is no GPU.
    """
    if requested:
        return [(target_of(one), one) for one in requested]
    gpus = probe_gpus()
    if not gpus.devices:
        raise InputError(
            "There is no GPU to build a plan for",
            received=gpus.problem or "no GPU",
            allowed="a machine with a GPU, or compute capabilities to build for ahead of time",
            fix="Name them: --compute-capability 8.6 8.9 12.0.",
        )
    here = gpus.devices[0]
    if library.is_rtx:
        if here.compute_capability not in library.capabilities:
            raise InputError(
                f"TensorRT-RTX {library.version} has no plans for the GPU of this machine",
                received=f"{here.name}, compute capability {spelled([here.compute_capability])}",
                allowed=spelled(library.capabilities),
                fix="Choose --backend tensorrt, or export the model with --target ort-cuda.",
            )
        return [(target_of(here.compute_capability), here.compute_capability)]
    return [(f"{here.name} {target_of(here.compute_capability)}", None)]


def default_folder(artifact: Artifact) -> Path:
    """Where plans lie when nobody says: found again by the graph that they were built from."""
    return Path.home() / ".cache" / "jisu" / "plans" / graph_hashes(artifact, plan_graphs(artifact)[0])[0][:16]
