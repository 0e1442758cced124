"""Which execution provider runs each node of an open ONNX Runtime session, and whether that is what was asked for.

Read back from the session (``session.record_ep_graph_assignment_info``), never assumed: the runtime moves what a
provider lacks to the CPU without a word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from jisu.exporter.contract.errors import InputError

# The entry of a session's configuration without which it keeps no such record.
RECORDS_PLACEMENT = "session.record_ep_graph_assignment_info"
# On shapes and counts they cost nothing, and the runtime places them on the CPU on purpose.
FREE_ON_CPU = frozenset(
    {"Shape", "Size", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Range", "Add", "Sub", "Mul", "Max"}
    | {"ReduceMax", "ReduceSum", "Constant", "ConstantOfShape", "Identity", "Reshape", "Where", "Equal", "Less"}
)
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Nodes by provider: provider -> operator -> how many; and the names of those that cost something elsewhere.

    ``unrecorded`` says why calls cannot be recorded as CUDA graphs, where that was wanted.
    """

    counts: dict[str, dict[str, int]]
    strays: tuple[str, ...]
    unrecorded: str | None = None

    def describe(self) -> list[str]:
        """A line for each provider."""
        return [
            f"{provider}: " + ", ".join(f"{count} {op_type}" for op_type, count in sorted(operators.items()))
            for provider, operators in self.counts.items()
        ]


def read_placement(session: Any, *, provider: str) -> Placement:
    """Read back where everything runs, and what is not on the provider.

    Raises:
        InputError: the session does not tell.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        raise InputError(
            "ONNX Runtime does not tell which provider runs which node",
            received="a session without get_provider_graph_assignment_info",
            allowed="onnxruntime or onnxruntime-gpu 1.30 or newer",
            fix="Install a newer one: pip install -U 'jisu[cuda]', or 'jisu[cpu]' for the CPU.",
        )
    counts: dict[str, Counter[str]] = {}
    strays = []
    for subgraph in tell():
        for node in subgraph.get_nodes():
            counts.setdefault(subgraph.ep_name, Counter())[node.op_type] += 1
            if subgraph.ep_name != provider and node.op_type not in FREE_ON_CPU:
                strays.append(f"{node.op_type} {node.name}")
    return Placement(counts={name: dict(operators) for name, operators in counts.items()}, strays=tuple(strays))


def check_placement(session: Any, *, provider: str, allow_cpu_nodes: bool) -> Placement:
    """The same, where every operator that costs something has to be on the provider.

    Raises:
        InputError: one is not, and that was not allowed.
    """
    placement = read_placement(session, provider=provider)
    strays = placement.strays
    if strays and not allow_cpu_nodes:
        more = f" and {len(strays) - _SHOWN} more" if len(strays) > _SHOWN else ""
        raise InputError(
            f"Some operators would not run on {provider}",
            received=", ".join(strays[:_SHOWN]) + more,
            allowed=f"every one of them on {provider}",
            fix="Export the model for --target ort-cuda with this version, or allow it with --allow-cpu-nodes.",
        )
    return placement


def joined(*placements: Placement) -> Placement:
    """The placement of several graphs as one."""
    counts: dict[str, Counter[str]] = {}
    for placement in placements:
        for provider, operators in placement.counts.items():
            counts.setdefault(provider, Counter()).update(operators)
    strays = tuple(stray for placement in placements for stray in placement.strays)
    why = next((placement.unrecorded for placement in placements if placement.unrecorded), None)
    return Placement(
        counts={name: dict(operators) for name, operators in counts.items()}, strays=strays, unrecorded=why
    )
