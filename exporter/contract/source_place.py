"""Where an artifact's source lies on the machine that exported it: noted beside the manifest, which names no paths.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import TIMINGS

_PLACES = "places"
# Kinds of sources whose names are no paths: they mean the same on every machine.
_NAMED = ("hf-hub", "factory", "module")


@dataclass(frozen=True, kw_only=True)
class SourcePlace:
    """Absolute paths of a checkpoint and of the adapters that were merged into it; None and none where unknown."""

    checkpoint: str | None = None
    adapters: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``timings.json``."""
        return {_PLACES: {"checkpoint": self.checkpoint, "adapters": self.adapters}}


def without_paths(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of a source with the last part of each path in its place; hashes tell which files they were."""
    record = dict(provenance)
    if record.get("kind") not in _NAMED and isinstance(record.get("name"), str):
        record["name"] = _last_part(record["name"])
    if "adapters" in record:
        record["adapters"] = [_last_part(path) for path in record["adapters"]]
    return record


def place_of(provenance: Mapping[str, Any]) -> SourcePlace:
    """The paths that `without_paths` leaves out."""
    name = provenance.get("name")
    is_path = provenance.get("kind") not in _NAMED and isinstance(name, str)
    return SourcePlace(
        checkpoint=str(Path(str(name)).absolute()) if is_path else None,
        adapters=[str(Path(path).absolute()) for path in provenance.get("adapters", [])],
    )


def read_place(folder: Path) -> SourcePlace:
    """The place that an export on this machine has noted in an artifact's folder; an empty one where there is none."""
    try:
        places = json.loads((folder / TIMINGS).read_text(encoding="utf-8"))[_PLACES]
        checkpoint, adapters = places["checkpoint"], places["adapters"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return SourcePlace()
    if not isinstance(adapters, list) or not isinstance(checkpoint, (str, type(None))):
        return SourcePlace()
    return SourcePlace(checkpoint=checkpoint, adapters=[str(path) for path in adapters])


def _last_part(path: str) -> str:
    """A path's own name; ``.`` has that of the folder it means."""
    return Path(path).absolute().resolve().name if Path(path).name in ("", "..") else Path(path).name
