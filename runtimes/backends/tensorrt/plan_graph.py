"""The graphs of an artifact that plans are built of: one, or a decoder's and its encoder's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jisu.exporter.contract.artifact import ENCODER, ENCODER_WEIGHTS, GRAPH, Artifact, weight_files
from jisu.exporter.contract.signature import Signature

ENCODER_PART = "encoder"


@dataclass(frozen=True, kw_only=True)
class PlanGraph:
    """One graph.

    Attributes:
        part: ends the plan's name; empty but for an encoder.
        path: its file.
        signature: what goes in and comes out.
        files: names of what it is made of, weights included.
    """

    part: str
    path: Path
    signature: Signature
    files: tuple[str, ...]


def plan_graphs(artifact: Artifact) -> tuple[PlanGraph, ...]:
    """The graph that makes logits, and the encoder's behind it where there is one."""
    signature = artifact.manifest.signature
    weights = weight_files(artifact.manifest.files)
    main = PlanGraph(part="", path=artifact.graph, signature=signature, files=(GRAPH, *weights))
    if not signature.encoded:
        return (main,)
    # Weights that both halves have lie in the decoder's file.
    files = (ENCODER, *weight_files(artifact.manifest.files, ENCODER_WEIGHTS), *weights)
    return main, PlanGraph(part=ENCODER_PART, path=artifact.encoder, signature=signature.encoder(), files=files)
