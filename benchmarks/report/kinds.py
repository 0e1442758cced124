"""Which kinds of models reports are of, and what each shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.benchmarks.report import generating_kinds, hearing_kind, reading_kinds, shown_kinds
from jisu.benchmarks.report.reported_kind import ReportedKind
from jisu.exporter.contract.artifact import (
    AUDIO_TEXT,
    CLASSIFICATION,
    EMBEDDING,
    IMAGE_TEXT,
    PER_TOKEN_KINDS,
    SPEECH,
    TEXT_TO_TEXT,
    ModelKind,
)

REPORTED: dict[ModelKind, ReportedKind] = {
    "text-generation": generating_kinds.GENERATION,
    TEXT_TO_TEXT: generating_kinds.TEXT_TO_TEXT,
    IMAGE_TEXT: shown_kinds.IMAGES,
    AUDIO_TEXT: shown_kinds.RECORDINGS,
    SPEECH: hearing_kind.HEARING,
    CLASSIFICATION: reading_kinds.LABELS,
    EMBEDDING: reading_kinds.VECTORS,
    **dict.fromkeys(sorted(PER_TOKEN_KINDS), reading_kinds.TOKENS),
}


def reported_kind(report: Mapping[str, Any]) -> ReportedKind:
    """What a report shows; one that does not say what it is of is of models that continue a text."""
    return kind_named(str(report.get("task")))


def kind_named(model_kind: str) -> ReportedKind:
    """What is shown of models for this."""
    known: dict[str, ReportedKind] = {str(name): kind for name, kind in REPORTED.items()}
    return known.get(model_kind, generating_kinds.GENERATION)
