"""Builds plans: the artifact's graph, compiled by TensorRT for one GPU or, by TensorRT-RTX, for one compute capability.

One plan holds a profile for prompts and one for single tokens; an encoder has a plan of its own. Nothing is tuned away
from what the graph says: the network is strongly typed, and a warning that something was dropped ends the build.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact, weight_files
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import INPUT_IDS
from jisu.runtimes.backends.tensorrt.compilation import Compiled, compile_graph
from jisu.runtimes.backends.tensorrt.frozen_graph import frozen_graph
from jisu.runtimes.backends.tensorrt.library import Capability, Library, spelled
from jisu.runtimes.backends.tensorrt.messages import Messages, monitor_into
from jisu.runtimes.backends.tensorrt.packed_plan import pack_plan
from jisu.runtimes.backends.tensorrt.plan_file import (
    PlanKey,
    PlanRecord,
    graph_hashes,
    part_path,
    plan_path,
    reason_to_build,
    require_folder,
    write_plan,
)
from jisu.runtimes.backends.tensorrt.plan_graph import PlanGraph, plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import Shapes, profiles_for

TARGET = "tensorrt"
TIMING_CACHE = "timing.cache"
DECOMPOSED = "attention is computed by single operators: TensorRT has no fused kernel for it here"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class BuiltPlan:
    """One plan, and what was done for it. ``reason`` is why it was built, None where it was there already."""

    path: Path
    target: str
    size: int
    seconds: float
    reason: str | None
    notes: tuple[str, ...] = ()


def build_plans(
    artifact: Artifact,
    library: Library,
    folder: Path,
    *,
    target: str,
    capability: Capability | None,
    shapes: Shapes,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[BuiltPlan, ...]:
    """Build the plans of one target, one for each graph of the artifact; arguments and errors as for `build_plan`."""
    check_artifact(artifact)
    return tuple(
        build_plan(
            artifact,
            library,
            folder,
            target=target,
            capability=capability,
            shapes=shapes,
            graph=graph,
            progress=progress,
            say=say,
        )
        for graph in plan_graphs(artifact)
    )


def build_plan(
    artifact: Artifact,
    library: Library,
    folder: Path,
    *,
    target: str,
    capability: Capability | None,
    shapes: Shapes,
    graph: PlanGraph | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> BuiltPlan:
    """Build one plan of a target into a folder, or find it there.

    Args:
        artifact: one exported for the target ``tensorrt``.
        graph: which of its graphs; None for the one that makes logits.
        target: what the plan is for, part of its name: ``sm89``, or the GPU's name.
        capability: what TensorRT-RTX builds for; None for the GPU of this machine.
        progress: called with (phase, step, steps).
        say: reports why a plan is built.

    Raises:
        InputError: the artifact is for something else, the library refuses the graph or the target, or the folder takes
            no files.
    """
    check_artifact(artifact)
    graph = graph or plan_graphs(artifact)[0]
    key = plan_key(artifact, library, target=target, shapes=shapes, graph=graph)
    path = part_path(plan_path(folder, backend=library.name, target=target), graph.part)
    reason = reason_to_build(path, key)
    if reason is None:
        return BuiltPlan(path=path, target=target, size=path.stat().st_size, seconds=0.0, reason=None)
    files = artifact.manifest.files
    require_folder(folder, room=sum(files[name].size for name in weight_files(files)))
    say(f"{path.name}: building, since {reason}")
    started = time.perf_counter()
    plan, notes = _build(
        artifact, library, folder, capability=capability, shapes=shapes, graph=graph, progress=progress
    )
    data = pack_plan(plan)
    seconds = time.perf_counter() - started
    record = PlanRecord(
        key=key.to_dict(), size=len(data), sha256=_sha256(data), seconds=round(seconds, 3), notes=tuple(notes)
    )
    write_plan(path, data, record)
    return BuiltPlan(path=path, target=target, size=len(data), seconds=seconds, reason=reason, notes=tuple(notes))


def check_artifact(artifact: Artifact) -> None:
    """Raise InputError for an artifact whose graph TensorRT would misread."""
    if artifact.manifest.target != TARGET:
        raise InputError(
            f"{artifact.folder} is not an artifact for TensorRT",
            received=f"an artifact for the target {artifact.manifest.target}",
            allowed=f"an artifact for the target {TARGET}",
            fix=f"Export the model with --target {TARGET}.",
        )


def plan_key(
    artifact: Artifact, library: Library, *, target: str, shapes: Shapes, graph: PlanGraph | None = None
) -> PlanKey:
    """What the plan of one of an artifact's graphs depends on; None for the one that makes logits."""
    graph = graph or plan_graphs(artifact)[0]
    profiles = profiles_for(graph.signature, shapes)
    return PlanKey(
        graph=graph_hashes(artifact, graph),
        library=f"{library.name} {library.version}",
        target=target,
        shapes=shapes,
        options=("float32 as it is", *(f"{profile.name} {profile.shapes[INPUT_IDS]}" for profile in profiles)),
    )


def target_of(capability: Capability) -> str:
    """``sm89``"""
    return f"sm{capability[0]}{capability[1]}"


def _build(
    artifact: Artifact,
    library: Library,
    folder: Path,
    *,
    capability: Capability | None,
    shapes: Shapes,
    graph: PlanGraph,
    progress: Progress | None,
) -> tuple[Any, list[str]]:
    used: list[Any] = []  # configuration and monitor, alive as long as they are needed

    def configure(config: Any) -> None:
        used[:] = [config]
        if not library.is_rtx:
            _use_timing_cache(config, folder)
        if progress is not None:
            used.append(monitor_into(progress, library))
            config.progress_monitor = used[-1]

    compiled = compile_plan_graph(graph, library, capability=capability, shapes=shapes, configure=configure)
    if compiled.plan is None:
        raise InputError(
            f"{graph.path} cannot be built by {_for_whom(library, capability)}",
            received=compiled.messages.shown(),
            allowed="a graph whose operators and number formats the target has",
            fix=f"Choose another precision than {artifact.manifest.precision}, or leave this target out."
            if compiled.parsed
            else "Export the model again with this version; should that not help, please report it.",
        )
    if not library.is_rtx:
        _keep_timing_cache(used[0], folder)
    return compiled.plan, [DECOMPOSED] if compiled.decomposed else []


def compile_plan_graph(
    graph: PlanGraph,
    library: Library,
    *,
    capability: Capability | None,
    shapes: Shapes,
    configure: Callable[[Any], None] = lambda config: None,
) -> Compiled:
    """One of an artifact's graphs as the library compiles it, or what it has against that.

    Raises:
        InputError: the library would build a different model than the one that was verified.
    """
    frozen = frozen_graph(graph.path, capacity=shapes.capacity)
    profiles = profiles_for(graph.signature, shapes)
    for_whom = _for_whom(library, capability)
    compiled = compile_graph(
        library,
        # The path tells where the weights lie.
        lambda parser: bool(parser.parse(frozen, str(graph.path))),
        profiles=lambda network: profiles,
        capability=capability,
        check=lambda network, messages: _check_network(network, messages, graph, for_whom=for_whom),
        configure=configure,
    )
    if compiled.plan is not None:
        _refuse_warnings(compiled.messages, for_whom)
    return compiled


def _for_whom(library: Library, capability: Capability | None) -> str:
    return library.name if capability is None else f"{library.name} for compute capability {spelled([capability])}"


def _check_network(network: Any, messages: Messages, graph: PlanGraph, *, for_whom: str) -> None:
    _refuse_warnings(messages, for_whom)
    expected = {spec.name for spec in graph.signature.inputs}
    expected |= {spec.past for spec in graph.signature.state}
    inputs = {network.get_input(index).name for index in range(network.num_inputs)}
    if inputs != expected:
        raise InputError(
            f"{for_whom} reads another interface than the manifest's",
            received=", ".join(sorted(inputs ^ expected)),
            allowed="the same inputs",
            fix="Export the model again; the graph or the manifest was replaced.",
        )


def _refuse_warnings(messages: Messages, for_whom: str) -> None:
    if messages.fatal:
        raise InputError(
            f"{for_whom} would build a different model than the one that was verified",
            received="; ".join(dict.fromkeys(messages.fatal)),
            allowed="a graph that is read as it is",
            fix="Please report the model; `--target ort-cuda` does not need TensorRT.",
        )


def _use_timing_cache(config: Any, folder: Path) -> None:
    """Timings of an earlier build, so that a similar one need not measure again; an empty cache when there are none."""
    place = folder / TIMING_CACHE
    try:
        data = place.read_bytes()
    except OSError:
        data = b""
    cache = config.create_timing_cache(data)
    config.set_timing_cache(cache, ignore_mismatch=False)


def _keep_timing_cache(config: Any, folder: Path) -> None:
    from contextlib import suppress

    with suppress(OSError):  # it saves time the next time, and nothing depends on it
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TIMING_CACHE).write_bytes(bytes(config.get_timing_cache().serialize()))


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
