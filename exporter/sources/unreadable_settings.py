"""The error for settings of generation that hold something else than token ids where these belong."""

from __future__ import annotations

from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.generation_settings import GENERATION_CONFIG
from jisu.exporter.sources.reason import reason_of

# What reading settings raises where ids are no numbers, and lists are none.
UNREADABLE = (TypeError, ValueError, AttributeError)


def unreadable_settings(checkpoint: Path, error: Exception) -> InputError:
    """What is said of settings of other types than transformers' own; ``error`` is one of `UNREADABLE`."""
    return InputError(
        f"The settings of generation of {checkpoint} cannot be understood",
        received=reason_of(error),
        allowed="token ids and lists of them, as transformers' GenerationConfig has them",
        fix=f"Correct {GENERATION_CONFIG}, or remove it.",
    )
