"""Checkpoint in, verified artifact out: sources, tracing, passes, the gate, and the artifact on disk.

It does not know how artifacts are served. Importing it imports nothing heavy: the public functions, and torch with
them, are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jisu.exporter.calibration_run import calibrate
    from jisu.exporter.dry_run import estimate_export
    from jisu.exporter.estimates.advice import advise
    from jisu.exporter.pipeline import export
    from jisu.exporter.request import ExportRequest
    from jisu.exporter.sources import load_source
    from jisu.exporter.verification import verify

# public name -> the module that has it
NAMES = {
    "ExportRequest": "jisu.exporter.request",
    "advise": "jisu.exporter.estimates.advice",
    "calibrate": "jisu.exporter.calibration_run",
    "export": "jisu.exporter.pipeline",
    "load_source": "jisu.exporter.sources",
    "estimate_export": "jisu.exporter.dry_run",
    "verify": "jisu.exporter.verification",
}

__all__ = ["ExportRequest", "advise", "calibrate", "estimate_export", "export", "load_source", "verify"]


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)


if __name__ == "exporter":  # by its folder's name, in a clone
    from jisu.folder_names import use_folder_name

    use_folder_name(__name__)
