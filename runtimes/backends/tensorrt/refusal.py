"""Why TensorRT refuses a graph, and the fewest of its operators that it refuses, found by Polygraphy.

``inspect capability`` tells which operators the parser does not take; ``debug reduce`` cuts a graph that parses and
does not build down to what is to blame. Both run on any machine where the library builds.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.backends.tensorrt.build import check_artifact, compile_plan_graph
from jisu.runtimes.backends.tensorrt.frozen_graph import frozen_graph
from jisu.runtimes.backends.tensorrt.library import Capability, Library, spelled
from jisu.runtimes.backends.tensorrt.plan_graph import PlanGraph, plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import Shapes

_GRAPH, _CANDIDATE = "graph.onnx", "polygraphy_debug.onnx"
_SUPPORTED = "fully supported"
_LIMIT = 1800  # seconds for one of Polygraphy's commands
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """``parser`` is what `inspect capability` says where operators are not taken, ``builder`` what the build says.

    Both are None where a plan can be built. ``subgraph`` holds the fewest operators that are refused, ``operators``
    names them.
    """

    parser: str | None = None
    builder: str | None = None
    subgraph: Path | None = None
    operators: str = ""


def find_refusal(
    artifact: Artifact,
    library: Library,
    *,
    capability: Capability | None,
    shapes: Shapes,
    out: Path,
    run: Run = subprocess.run,
) -> Refusal:
    """Look whether TensorRT takes an artifact's graph, or its two, and for what it does not.

    Args:
        capability: what to build for; None for the GPU of this machine.
        out: the file that the subgraph goes to.
        run: starts Polygraphy's commands.

    Raises:
        MissingDependencyError: Polygraphy is not installed.
        InputError: the artifact is for another target, or Polygraphy fails.
    """
    check_artifact(artifact)
    for module in ("polygraphy", "onnx_graphsurgeon"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(module, extra=library.name, needed_for="A diagnosis for TensorRT")
    refusal = Refusal()
    for graph in plan_graphs(artifact):
        refusal = _refusal_of(graph, library, capability=capability, shapes=shapes, out=out, run=run)
        if refusal != Refusal():
            break
    return refusal


def _refusal_of(
    graph: PlanGraph, library: Library, *, capability: Capability | None, shapes: Shapes, out: Path, run: Run
) -> Refusal:
    with tempfile.TemporaryDirectory(prefix="jisu-refusal-") as name:
        folder = Path(name)
        (folder / _GRAPH).write_bytes(frozen_graph(graph.path, capacity=shapes.capacity))
        # TensorRT looks for the weights beside the graph, and reading them through a link is refused by onnx.
        for name in graph.files[1:]:
            if (graph.path.parent / name).is_file():
                shutil.copyfile(graph.path.parent / name, folder / name)
        said = _polygraphy(["inspect", "capability", _GRAPH], folder, library, run)
        if _SUPPORTED not in said:
            return Refusal(parser=_summary(said))
        compiled = compile_plan_graph(graph, library, capability=capability, shapes=shapes)
        if compiled.plan is not None:
            return Refusal()
        target = [] if capability is None else [spelled([capability])]
        check = [sys.executable, "-m", "jisu.runtimes.backends.tensorrt.try_build", _CANDIDATE, library.name, *target]
        words = ["debug", "reduce", _GRAPH, "--output", "reduced.onnx", "--mode", "bisect", "--check", *check]
        _polygraphy(words, folder, library, run)
        return _kept(folder / "reduced.onnx", out, compiled.messages.shown())


def _kept(reduced: Path, out: Path, reason: str) -> Refusal:
    if not reduced.is_file():  # whatever is left out, the rest builds: nothing smaller is refused
        return Refusal(builder=reason)
    import onnx

    nodes = onnx.load(str(reduced)).graph.node
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(reduced, out)
    named = ", ".join(f"{node.op_type} {max(node.input, key=len, default='')}".strip() for node in nodes)
    return Refusal(builder=reason, subgraph=out, operators=named)


def _polygraphy(words: list[str], folder: Path, library: Library, run: Run) -> str:
    environment = {**os.environ, **({"POLYGRAPHY_USE_TENSORRT_RTX": "1"} if library.is_rtx else {})}
    main = "import sys; from polygraphy.tools import main; sys.exit(main())"
    command: list[Any] = [sys.executable, "-c", main, *words]
    try:
        done = run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"Polygraphy's {words[0]} {words[1]} took too long",
            received=f"no result after {_LIMIT} s",
            allowed=f"at most {_LIMIT} s",
            fix="Diagnose a smaller model.",
        ) from error
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise InputError(
            f"Polygraphy's {words[0]} {words[1]} failed",
            received=said.strip().splitlines()[-1] if said.strip() else f"exit code {done.returncode}",
            allowed="a graph and a library that Polygraphy can open",
            fix="Run `jisu build` to see what TensorRT itself says.",
        )
    return said


def _summary(output: str) -> str:
    """The lines below the table's head."""
    _, _, table = output.partition("===== Summary =====")
    rows = [" ".join(line.split()) for line in table.splitlines() if "|" in line][1:]
    return "; ".join(rows) or "no reason given"
