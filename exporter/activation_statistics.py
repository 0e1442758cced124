"""Runs a source over calibration text once and keeps what later exports need: its windows, and sums over inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.calibration_data import RECORD, WINDOWS_FILE, read_calibration_data
from exporter.errors import InputError
from exporter.evaluation_text import read_evaluation_text
from exporter.stages import Stages

if TYPE_CHECKING:
    from calibration.statistics import Statistics
    from exporter.calibration_data import CalibrationData

# Enough for a mix of precisions, which is chosen with some of them and checked with others.
CALIBRATION_WINDOWS = 44


def calibrate(
    checkpoint: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    field: str = "text",
    windows: int = CALIBRATION_WINDOWS,
    window_tokens: int = 256,
    hessians: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    stages: Stages | None = None,
) -> Statistics:
    """Collect statistics of a checkpoint into a folder, or go on with an unfinished collection.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, or a hub id.
        out: the folder; new, empty, or with statistics of the same model, text and settings.
        data: text: plain, JSONL, CSV or a dataset's folder; the first half of CPython's own prose when None.
        field: the column or key that holds the text.
        windows, window_tokens: how much of it is run, drawn with a fixed seed.
        hessians: also keep X^T X of every input, 4 K**2 bytes each: int4 then needs no further run of the model.
        stages: collects the time and peak memory of each step.

    Raises:
        InputError: an unusable text or folder, or activations that are not finite; names the layer.
    """
    from calibration.collect import CollectSettings, collect
    from calibration.errors import CalibrationError
    from exporter.sources import load_source

    stages, out = stages or Stages(), Path(out)
    _refuse_other_files(out)
    with stages.stage("load"):
        source = load_source(checkpoint, revision=revision, allow_pickle=allow_pickle)
    text = None if data is None else Path(data)
    drawn = read_calibration_data(
        source,
        text,
        field=field,
        evaluation=read_evaluation_text(None).text,
        windows=windows,
        window_tokens=window_tokens,
    )
    try:
        with stages.stage("calibrate"):
            settings = CollectSettings(hessians=hessians)
            found = collect(source.module, drawn.windows, out, settings=settings, progress=stages.advance)
        _write_windows(out, drawn)
    except CalibrationError as error:
        raise InputError(error.failed, received=error.received, allowed=error.allowed, fix=error.fix) from error
    except OSError as error:
        raise InputError(
            f"The statistics cannot be written to {out}",
            received=error.strerror or error,
            allowed="a folder with room for them",
            fix="Make room or choose another --out.",
        ) from error
    return found


def _refuse_other_files(out: Path) -> None:
    from calibration.statistics import has_statistics

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not has_statistics(out))):
        raise InputError(
            f"{out} is no folder for statistics",
            received="a file" if not out.is_dir() else "a folder with other files",
            allowed="a new folder, or one with statistics to go on with",
            fix="Choose another --out.",
        )


def _write_windows(out: Path, data: CalibrationData) -> None:
    import numpy as np

    partial: dict[str, Any] = {"record": data.record, "seed": data.windows.seed}
    np.save(out / WINDOWS_FILE, data.windows.ids)
    (out / RECORD).write_text(json.dumps(partial, indent=1) + "\n", encoding="utf-8")
