"""Whether the manifest says of the model what its source says: a runtime stops and counts by these numbers."""

from __future__ import annotations

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.gate.result import Check

COMPARED = ("vocab_size", "max_positions", "layers", "parameters", "bos", "eos", "pad", "labels", "activation", "mask")
# Of a model with an encoder.
COMPARED_TOO = ("max_source_positions", "decoder_start", "forced_bos", "forced_eos", "suppressed")


def check_facts(recorded: ModelFacts, source: ModelFacts) -> Check:
    """One check; its detail names every fact that differs, with both values."""
    compared = COMPARED if source.decoder_start is None else (*COMPARED, *COMPARED_TOO)
    differing = [
        f"{name} is {getattr(recorded, name)} where the source has {getattr(source, name)}"
        for name in compared
        if getattr(recorded, name) != getattr(source, name)
    ]
    return Check(
        name="model-facts",
        passed=not differing,
        value=len(differing),
        limit=0,
        unit="facts that differ",
        detail="; ".join(differing) + "." if differing else f"Same {', '.join(compared)} as the source.",
    )
