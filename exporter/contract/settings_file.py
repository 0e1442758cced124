"""A file of settings that comes with a folder from anywhere: read whole and checked, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jisu.exporter.contract.errors import InputError

Settings = TypeVar("Settings")


def read_settings(
    path: Path, kind: Callable[..., Settings], problems_of: Callable[[Settings], list[str]], *, says: str
) -> Settings:
    """Read what an export wrote.

    Args:
        kind: a dataclass; the file's keys are its fields.
        problems_of: what is wrong with one.
        says: what the file tells, to end the sentence of an error.

    Raises:
        InputError: it is anything else.
    """
    try:
        settings = kind(**json.loads(path.read_text(encoding="utf-8")))
        problems = problems_of(settings)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problems = [f"{type(error).__name__}: {error}"]
    if problems:
        raise InputError(
            f"{path} does not say {says}",
            received="; ".join(problems),
            allowed="the file as the export wrote it",
            fix="Export the model again.",
        )
    return settings
