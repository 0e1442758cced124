"""Whether an artifact will fit onto the disk, known before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.output_path import existing_parent

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

# Tokenizer, graph and records.
_SIDE_FILES = 64 << 20


def disk_space(out: Path, source: Source) -> tuple[int, int]:
    """Bytes that the weights would take in float32, and those that are free where they would go."""
    return source.weight_bytes + _SIDE_FILES, shutil.disk_usage(existing_parent(out)).free


def require_disk(needed: int, free: int, *, out: Path) -> None:
    """Raise InputError when an artifact at ``out`` does not fit."""
    if free < needed:
        raise InputError(
            f"There is too little free space under {existing_parent(out)} for the artifact",
            received=f"{free / 1e6:.0f} MB free",
            allowed=f"at least {needed / 1e6:.0f} MB",
            fix="Free disk space, or choose another --out.",
        )
