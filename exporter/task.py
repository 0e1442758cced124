"""What a user may ask of an export, given what the model is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import InputError
from exporter.precision import MIXED

if TYPE_CHECKING:
    from exporter.request import ExportRequest
    from exporter.sources.source import Source


def check_task(request: ExportRequest, source: Source) -> None:
    """Raise InputError for wishes that a model of this task cannot fulfil."""
    if source.task != "text-classification":
        return
    unfit = {
        "a mix of formats": request.wanted.name == MIXED,
        "--max-ppl-ratio": request.max_perplexity_ratio is not None,
    }
    given = [name for name, is_given in unfit.items() if is_given]
    if given:
        raise InputError(
            "A classifier is judged by its labels, which this needs next tokens for",
            received=", ".join(given),
            allowed="one --precision for all layers; limits --max-kl and --min-top1 with it",
            fix="Use --precision int8, or leave the option out.",
        )
