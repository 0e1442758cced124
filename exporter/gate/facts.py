"""Whether the manifest says of the model what its source says: a runtime stops and counts by these numbers."""

from __future__ import annotations

from exporter.artifact import ModelFacts
from exporter.gate.result import Check

COMPARED = ("vocab_size", "max_positions", "layers", "bos", "eos", "pad", "labels")


def check_facts(recorded: ModelFacts, source: ModelFacts) -> Check:
    """One check; its detail names every fact that differs, with both values."""
    differing = [
        f"{name} is {getattr(recorded, name)} where the source has {getattr(source, name)}"
        for name in COMPARED
        if getattr(recorded, name) != getattr(source, name)
    ]
    return Check(
        name="model-facts",
        passed=not differing,
        value=len(differing),
        limit=0,
        unit="facts that differ",
        detail="; ".join(differing) + "." if differing else f"Same {', '.join(COMPARED)} as the source.",
    )
