"""Checkpoint in, verified artifact out: sources, tracing, passes, the gate, and the artifact on disk.

It does not know how artifacts are served. Importing it imports nothing heavy: the public functions, and torch with
them, are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.calibration_run import calibrate
    from exporter.dry_run import plan_export
    from exporter.estimates.advice import advise
    from exporter.pipeline import export
    from exporter.request import ExportRequest
    from exporter.sources import load_source
    from exporter.verification import verify

# public name -> the module that has it
NAMES = {
    "ExportRequest": "exporter.request",
    "advise": "exporter.estimates.advice",
    "calibrate": "exporter.calibration_run",
    "export": "exporter.pipeline",
    "load_source": "exporter.sources",
    "plan_export": "exporter.dry_run",
    "verify": "exporter.verification",
}

__all__ = ["ExportRequest", "advise", "calibrate", "export", "load_source", "plan_export", "verify"]


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)
