"""Windows kept in a folder of statistics: what these are of, and what a collection that was interrupted needs.

A model's own writing takes a while, and its last tokens depend on the CPU: it is not written twice for one folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.calibration.text.windows import TokenIds

# Windows, int64 [windows, length], and where they came from.
WINDOWS_FILE, RECORD = "windows.npy", "calibration.json"
# What reading them raises; tokenize's error is numpy's for a damaged header.
_UNREADABLE = (OSError, EOFError, MemoryError, ValueError, KeyError, TypeError, AttributeError, TokenError)
FILES = (WINDOWS_FILE, RECORD, f"{RECORD}.partial")


@dataclass(frozen=True, kw_only=True)
class StoredWindows:
    """What the two files hold.

    Attributes:
        ids: int64 [windows, length].
        parts: of each window; empty in folders of former versions.
        model: fingerprint of the model that they were drawn for; None in folders of former versions.
    """

    ids: TokenIds
    record: dict[str, Any]
    seed: int
    parts: tuple[str, ...] = ()
    model: str | None = None


def write_stored_windows(folder: Path, stored: StoredWindows) -> None:
    """Write both files, the record last and at once; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / WINDOWS_FILE, stored.ids)
    entries = {
        "record": stored.record,
        "seed": stored.seed,
        "parts": list(stored.parts),
        "model": stored.model,
    }
    partial = folder / f"{RECORD}.partial"
    partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD)


def read_stored_windows(folder: Path) -> StoredWindows:
    """What a folder holds.

    Raises:
        InputError: one of the files is missing or damaged.
    """
    try:
        ids = np.load(folder / WINDOWS_FILE, allow_pickle=False)
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 2:
            raise ValueError(f"{WINDOWS_FILE} holds no windows of token ids")
        entries = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return StoredWindows(
            ids=ids,
            record=dict(entries["record"]),
            seed=entries["seed"],
            parts=tuple(entries.get("parts", ())),
            model=entries.get("model"),
        )
    except _UNREADABLE as error:
        raise InputError(
            f"The windows of the statistics in {folder} cannot be read",
            received=f"{type(error).__name__}: {error}",
            allowed="a folder as `jisu calibrate` writes it",
            fix="Delete the folder and collect again.",
        ) from error
