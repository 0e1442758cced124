"""What an export of a model that turns a text into another cannot do, said before anything long begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact import TEXT_TO_TEXT
from exporter.errors import InputError

if TYPE_CHECKING:
    from exporter.request import ExportRequest
    from exporter.sources.source import Source

# Weights alone, each rounded by itself; all others run text through decoder layers or look at their activations.
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def check_text_to_text(source: Source, request: ExportRequest) -> None:
    """Raise InputError for a target and precision in which an encoder and a decoder cannot be written."""
    if source.task != TEXT_TO_TEXT:
        return
    precision = request.wanted
    computed = precision.half is not None and request.target == "portable"
    if precision.name in PRECISIONS and not computed:
        return
    raise InputError(
        f"{source.model.architecture} has an encoder and a decoder, which cannot be exported in {precision.name} "
        f"for {request.target}",
        received=f"--target {request.target} --precision {precision.name}",
        allowed=f"{', '.join(PRECISIONS)}; for portable, fp32 and int8",
        fix="Choose one of these; int8 is the smallest.",
    )


def refuse_activations(source: Source, *, what: str) -> None:
    """Raise InputError for a job that looks at a decoder's activations, where an encoder's output would be missing."""
    if source.task == TEXT_TO_TEXT:
        raise InputError(
            f"{source.model.architecture} has an encoder and a decoder, and there is no {what} of it",
            received="a model that turns a text into another",
            allowed="a model that continues a text",
            fix="Export it with --precision int8, which needs no calibration.",
        )
