"""Runs a source over calibration text once and keeps what later exports need: its windows, and sums over inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.errors import InputError
from exporter.gate.evaluation_text import read_evaluation_text
from exporter.jobs.output_path import cannot_write, check_name, check_parent, try_to_write
from exporter.jobs.ray_tasks import cluster
from exporter.jobs.stages import Stages
from exporter.quantization.calibration_data import RECORD, WINDOWS_FILE, read_calibration_data
from exporter.quantization.calibration_shards import collect_on_cluster
from exporter.request_checks import refuse_activations
from exporter.sources.finite_weights import check_finite_weights
from exporter.sources.worker_source import task_bytes, worker_source

if TYPE_CHECKING:
    from torch import nn

    from calibration.statistics.statistics import Statistics
    from exporter.quantization.calibration_data import CalibrationData

# Enough for mixed precision, which is chosen with some of them and checked with others.
CALIBRATION_WINDOWS = 44


def calibrate(
    checkpoint: str | Path | nn.Module,
    out: str | Path,
    *,
    tokenizer: Any = None,
    data: str | Path | None = None,
    field: str = "text",
    windows: int = CALIBRATION_WINDOWS,
    window_tokens: int = 256,
    hessians: bool = False,
    evaluation: str | Path | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    adapters: Sequence[str | Path] = (),
    ray: str | None = None,
    stages: Stages | None = None,
) -> Statistics:
    """Collect statistics of a checkpoint into a folder, or resume an unfinished collection.

    Args:
        checkpoint: see `exporter.sources.load_source`.
        out: the folder; new, empty, or with statistics of the same model, text and settings.
        data: text: plain, JSONL, CSV or a dataset's folder; the first half of CPython's own prose when None.
        field: the column or key that holds the text.
        windows: how many pieces of it are run, drawn with a fixed seed.
        window_tokens: the length of each.
        hessians: also keep X^T X of every input, 4 K**2 bytes each: int4 then needs no further run of the model.
        evaluation: text that later exports are judged on, which must have nothing in common with the data; the second
            half of CPython's own prose when None.
        ray: address of a Ray cluster that runs the windows, see `exporter.jobs.ray_tasks.cluster`; None runs them here.
        tokenizer: see `exporter.sources.load_source`, as the next one.
        ignore_weights: of the checkpoint.
        adapters: to merge into it.
        stages: collects the time and peak memory of each step.

    Raises:
        InputError: an unusable text or folder, or weights or activations that are not finite; names the layer.
    """
    from calibration.errors import CalibrationError
    from calibration.statistics.collect import CollectSettings, collect
    from calibration.statistics.statistics import has_statistics
    from exporter.sources import load_source

    stages, out = stages or Stages(), Path(out)
    check_name(out, what="folder of statistics", temporary="{name}")
    check_parent(out, what="folder of statistics")
    _refuse_other_files(out)
    text = None if data is None else Path(data)
    _refuse_statistics(text)
    held_out = read_evaluation_text(evaluation)
    with stages.stage("load"):
        source = load_source(
            checkpoint,
            revision=revision,
            allow_pickle=allow_pickle,
            ignore_weights=ignore_weights,
            adapters=adapters,
            tokenizer=tokenizer,
        )
    refuse_activations(source, what="calibration")
    drawn = read_calibration_data(
        source,
        text,
        field=field,
        evaluation=held_out.text,
        windows=windows,
        window_tokens=window_tokens,
    )
    check_finite_weights(source.module)
    try_to_write(out / RECORD, what="statistics", option="--out")
    try:
        with stages.stage("calibrate"):
            settings = CollectSettings(hessians=hessians)
            if ray is None or has_statistics(out):  # which are resumed, or only read
                found = collect(source.module, drawn.windows, out, settings=settings, progress=stages.advance)
            else:
                named = worker_source(
                    checkpoint,
                    tokenizer=tokenizer,
                    revision=revision,
                    allow_pickle=allow_pickle,
                    ignore_weights=ignore_weights,
                    adapters=adapters,
                )
                memory = task_bytes(source)
                with cluster(ray):
                    found = collect_on_cluster(
                        named, drawn.windows, out, settings=settings, memory_bytes=memory, progress=stages.advance
                    )
        _write_windows(out, drawn)
    except CalibrationError as error:
        raise InputError.of(error) from error
    except OSError as error:
        raise cannot_write(out, error, what="statistics", option="--out") from error
    return found


def _refuse_other_files(out: Path) -> None:
    from calibration.statistics.statistics import has_statistics, is_leftover

    if not out.exists() and not out.is_symlink():
        return
    # A collection that was killed during its first save leaves a folder without an index.
    if not out.is_dir() or not (has_statistics(out) or all(map(is_leftover, out.iterdir()))):
        raise InputError(
            f"{out} is no folder for statistics",
            received="a file" if not out.is_dir() else "a folder with other files",
            allowed="a new folder, or one with statistics to go on with",
            fix="Choose another --out.",
        )


def _refuse_statistics(text: Path | None) -> None:
    from calibration.statistics.statistics import has_statistics

    if text is not None and has_statistics(text):
        raise InputError(
            f"{text} holds statistics, which are no text to collect others from",
            received="a folder of statistics",
            allowed="text, JSONL, CSV or a dataset's folder",
            fix="Give the text that they were made of with --data.",
        )


def _write_windows(out: Path, data: CalibrationData) -> None:
    import numpy as np

    partial: dict[str, Any] = {"record": data.record, "seed": data.windows.seed}
    np.save(out / WINDOWS_FILE, data.windows.ids)
    (out / RECORD).write_text(json.dumps(partial, indent=1) + "\n", encoding="utf-8")
