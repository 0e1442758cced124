"""Runs a source over calibration text once and keeps what later exports need: its windows, and sums over inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.evaluation_text import read_evaluation_text
from jisu.exporter.jobs.output_path import cannot_write, check_name, check_parent, scratch_folder, try_to_write
from jisu.exporter.jobs.ray_tasks import cluster
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.quantization.calibration_data import (
    MIX_SHARES,
    MIX_WINDOWS,
    CalibrationData,
    prepare_calibration_data,
    write_calibration_data,
)
from jisu.exporter.quantization.calibration_shards import collect_on_cluster
from jisu.exporter.quantization.calibration_texts import CalibrationTexts, calibration_texts
from jisu.exporter.quantization.stored_windows import (
    FILES,
    RECORD,
    StoredWindows,
    read_stored_windows,
    write_stored_windows,
)
from jisu.exporter.request_checks import refuse_activations
from jisu.exporter.sources.finite_weights import check_finite_weights
from jisu.exporter.sources.worker_source import task_bytes, worker_source

if TYPE_CHECKING:
    from torch import nn

    from jisu.calibration.statistics.statistics import Statistics
    from jisu.exporter.sources.source import Source


def calibrate(
    checkpoint: str | Path | nn.Module,
    out: str | Path,
    *,
    tokenizer: Any = None,
    data: str | Path | Sequence[str | Path] | None = None,
    field: str = "text",
    windows: int = MIX_WINDOWS,
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
        data: texts: plain, JSONL, CSV or a dataset's folder; the built-in mixture when None, and beside texts when
            ``"mixture"`` is among them.
        field: the column or key that holds the text.
        windows: how many pieces of it are run, drawn with a fixed seed; by default enough for a mixed precision.
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
    from jisu.calibration.errors import CalibrationError
    from jisu.calibration.statistics.collect import CollectSettings, collect
    from jisu.calibration.statistics.statistics import has_statistics
    from jisu.exporter.sources import load_source

    stages, out = stages or Stages(), Path(out)
    check_name(out, what="folder of statistics", temporary="{name}")
    check_parent(out, what="folder of statistics")
    _refuse_other_files(out)
    texts = calibration_texts(data, field=field, option="--data")
    _refuse_statistics(texts)
    held_out = read_evaluation_text(evaluation)
    with stages.stage("load"):
        source = load_source(
            checkpoint,
            revision=revision,
            allow_pickle=allow_pickle,
            ignore_weights=ignore_weights,
            adapters=adapters,
            tokenizer=tokenizer,
            scratch=scratch_folder(out),
        )
    refuse_activations(source, what="calibration")
    chosen = prepare_calibration_data(
        source,
        texts,
        evaluation=held_out.text,
        windows=windows,
        window_tokens=window_tokens,
        shares=MIX_SHARES,
    )
    check_finite_weights(source.module)
    try_to_write(out / RECORD, what="statistics", option="--out")
    try:
        with stages.stage("calibration text"):
            drawn = _written(source, chosen, out, stages)
        with stages.stage("calibrate"):
            settings = CollectSettings(hessians=hessians)
            if ray is None or has_statistics(out):  # which are resumed, or only read
                from jisu.exporter.tracing.expert_layers import expert_layers

                with expert_layers(source.module):
                    statistics = collect(source.module, drawn.windows, out, settings=settings, progress=stages.advance)
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
                    statistics = collect_on_cluster(
                        named, drawn.windows, out, settings=settings, memory_bytes=memory, progress=stages.advance
                    )
    except CalibrationError as error:
        raise InputError.of(error) from error
    except OSError as error:
        raise cannot_write(out, error, what="statistics", option="--out") from error
    return statistics


def _refuse_other_files(out: Path) -> None:
    from jisu.calibration.statistics.statistics import has_statistics

    if not out.exists() and not out.is_symlink():
        return
    # A collection that was killed during its first save leaves a folder without an index.
    if not out.is_dir() or not (has_statistics(out) or all(map(_is_leftover, out.iterdir()))):
        raise InputError(
            f"{out} cannot hold statistics",
            received="a file" if not out.is_dir() else "a folder with other files",
            allowed="a new folder, or one with statistics to resume",
            fix="Choose another --out.",
        )


def _is_leftover(path: Path) -> bool:
    from jisu.calibration.statistics.statistics import is_leftover

    return path.name in FILES or is_leftover(path)


def _refuse_statistics(texts: CalibrationTexts) -> None:
    if texts.statistics is not None:
        raise InputError(
            f"{texts.statistics} holds statistics, not text",
            received="a folder of statistics",
            allowed="text, JSONL, CSV or a dataset's folder",
            fix="Give the text that they were collected on with --data.",
        )


def _written(source: Source, chosen: CalibrationData, out: Path, stages: Stages) -> CalibrationData:
    """The chosen windows with what the model writes, which a collection that was interrupted has kept."""
    from jisu.calibration.statistics.statistics import has_statistics
    from jisu.calibration.text.fingerprint import model_fingerprint
    from jisu.calibration.text.windows import Windows

    model = model_fingerprint(source.module)
    if chosen.unwritten is not None and (out / RECORD).exists():
        stored = read_stored_windows(out)
        if stored.record.get("fingerprint") == chosen.fingerprint and stored.model == model:
            windows = Windows(ids=stored.ids, seed=stored.seed)
            return CalibrationData(windows=windows, record=stored.record, parts=stored.parts)
    data = write_calibration_data(source, chosen, progress=stages.advance)
    if not has_statistics(out):  # whose windows these may not be, which is found out when they are resumed
        ids, seed = data.windows.ids, data.windows.seed
        stored = StoredWindows(ids=ids, record=data.record, seed=seed, parts=data.parts, model=model)
        write_stored_windows(out, stored)
    return data
