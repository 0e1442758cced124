"""What runs each operator of an artifact on a backend, read back from what was opened, for `jisu inspect --backend`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort.placement import Placement, joined, read_placement

_PLANS = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True, kw_only=True)
class PlacementReport:
    """``counts``: who runs -> operator -> how many. ``elsewhere`` names what costs something and is not on the GPU."""

    backend: str
    counts: dict[str, dict[str, int]]
    elsewhere: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """A line for each operator under whoever runs it, and what there is to say."""
        lines = []
        for runner, operators in self.counts.items():
            lines.append(f"{runner}: {sum(operators.values())} operators")
            ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
            lines += [f"  {count:5}  {op_type}" for op_type, count in ordered]
        lines += [f"not on the GPU: {name}" for name in self.elsewhere]
        return [*lines, *self.notes]


def placement_report(artifact: Artifact, backend: str) -> PlacementReport:
    """Open an artifact on a backend and read back what runs where.

    Raises:
        InputError: the backend cannot open it here, or has no operators to place.
    """
    if backend == "ort-cpu":
        return _on_the_cpu(artifact)
    if backend == "ort-cuda":
        return _on_a_gpu(artifact)
    if backend in _PLANS:
        return _in_plans(artifact, backend)
    raise InputError(
        f"The backend {backend} does not report where operators run",
        received=f"--backend {backend}",
        allowed=", ".join(("ort-cpu", "ort-cuda", *_PLANS)),
        fix="Choose one of these.",
    )


def _on_the_cpu(artifact: Artifact) -> PlacementReport:
    from jisu.runtimes.backends.ort.session import PROVIDER, open_session

    graphs = [artifact.cpu_graph, *([artifact.cpu_encoder] if artifact.manifest.signature.encoded else [])]
    placements = [
        read_placement(open_session(graph, threads=None, records_placement=True), provider=PROVIDER) for graph in graphs
    ]
    placement = placements[0] if len(placements) == 1 else joined(*placements)
    note = () if artifact.cpu_graph == artifact.graph else (f"The graph is {artifact.cpu_graph.name}, for CPUs.",)
    return PlacementReport(backend="ort-cpu", counts=placement.counts, notes=note)


def _on_a_gpu(artifact: Artifact) -> PlacementReport:
    from jisu.runtimes.backends.backend_options import BackendOptions
    from jisu.runtimes.backends.registry import open_artifact

    opened: Any = open_artifact("ort-cuda", artifact, BackendOptions(allow_cpu_nodes=True))
    try:
        placement: Placement = opened.placement
    finally:
        opened.close()
    notes = (
        ()
        if placement.unrecorded is None
        else (f"Single tokens are not recorded as CUDA graphs: {placement.unrecorded}.",)
    )
    return PlacementReport(backend="ort-cuda", counts=placement.counts, elsewhere=placement.strays, notes=notes)


def _in_plans(artifact: Artifact, backend: str) -> PlacementReport:
    """A plan runs as a whole on the GPU; what TensorRT decided by itself stands in the plans' records."""
    from jisu.runtimes.backends.tensorrt.build import check_artifact
    from jisu.runtimes.backends.tensorrt.plan_file import PLAN, read_record
    from jisu.runtimes.backends.tensorrt.plan_targets import default_folder

    check_artifact(artifact)
    counts = {backend: _operators(artifact)}
    folder = default_folder(artifact)
    notes = []
    for path in sorted(folder.glob(f"*{PLAN}")):
        try:
            record = read_record(path)
        except InputError as error:
            notes.append(f"{path.name}: {error}")
            continue
        if str(record.key.get("library")).split(" ")[0] != backend:
            continue
        notes += [f"{path.name}: {record.size / 1e6:.1f} MB, {'; '.join(record.notes) or 'attention is fused'}"]
    return PlacementReport(backend=backend, counts=counts, notes=tuple(notes) or (f"No plan lies in {folder} yet.",))


def _operators(artifact: Artifact) -> dict[str, int]:
    """How many of each operator the graph has, or the two graphs have."""
    from collections import Counter

    import onnx_ir as ir

    from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs

    nodes = (node for graph in plan_graphs(artifact) for node in ir.load(graph.path).graph)
    return dict(Counter(node.op_type for node in nodes))
