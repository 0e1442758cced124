"""What a verification does for a model of any kind: the checks of its tokenizer, and saying how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.gate import Check
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.sources.source import Source


def tokenizer_check_of(artifact: Artifact, source: Source) -> Callable[[], list[Check]] | None:
    """Makes the checks of the tokenizer; None where there is none."""
    from jisu.exporter.gate.tokenizer import check_tokenizer

    tokenizer = source.tokenizer
    return (
        None
        if tokenizer is None
        else lambda: check_tokenizer(tokenizer, artifact.folder, facts=artifact.manifest.model)
    )


def progress_of(stages: Stages | None) -> Callable[[str, int, int], None]:
    """Tells the stages which check begins."""

    def progress(name: str, number: int, total: int) -> None:
        if stages is not None:
            stages.advance(number, total)

    return progress
