"""The file that measured sensitivities are kept in: read only for the same model, windows and formats.

It is written after every decoder layer, so that a measurement that was ended goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.output_path import cannot_write, check_name, try_to_write

SCHEMA = 6
# Entries of a file that have to be the same for its figures to be used again, and what they are called.
_ORIGIN = {
    "schema": "another schema",
    "model": "another model",
    "windows": "other windows of text",
    "candidates": "other formats",
}


def check_place(path: Path | None) -> None:
    """Raise InputError when the file could not be written, which would otherwise come out after the first layer."""
    if path is None:
        return
    check_name(path, what="sensitivity file", temporary="{name}.partial")
    if not path.exists():
        try_to_write(path, what="sensitivity file", option="file")


def read_figures(path: Path | None, origin: dict[str, Any]) -> dict[str, Any] | None:
    """What a file holds; None where there is none.

    Args:
        origin: what the entries that say what was measured have to be; those that it lacks are not compared.

    Raises:
        InputError: it cannot be read as such a file, or holds figures of something else.
    """
    if path is None or not path.exists():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        groups = [group for layer in state["layers"].values() for group in layer] + (state["tables"] or [])
        if not all(isinstance(group["names"], list) and isinstance(group["kl"], dict) for group in groups):
            raise ValueError("no groups of layers")
        figures = [kl for group in groups for kl in group["kl"].values()]
        if not all(isinstance(kl, float | int) and math.isfinite(kl) for kl in figures):
            raise ValueError("figures that are no finite numbers")
        if not all(index.isdecimal() for index in state["layers"]):
            raise ValueError("layers without a number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read as a sensitivity file",
            received=f"{type(error).__name__}: {error}",
            allowed="a file written by `jisu sensitivity`",
            fix="Choose another file, or delete this one.",
        ) from error
    # The windows say what was measured; where they came from (a text, or statistics of it) does not matter.
    expected = {key: words for key, words in _ORIGIN.items() if key in origin}
    other = [words for key, words in expected.items() if state.get(key) != json.loads(json.dumps(origin[key]))]
    if other:
        raise InputError(
            f"{path} holds the sensitivity of something else",
            received=" and ".join(other),
            allowed="figures of the same model, calibration text and formats",
            fix="Choose another file, or delete this one.",
        )
    return dict(state)


def write_figures(path: Path | None, state: dict[str, Any]) -> None:
    """Replace a file by what is known now; it is whole at every moment.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise cannot_write(path, error, what="sensitivity file", option="file") from error
