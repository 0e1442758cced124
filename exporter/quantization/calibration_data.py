"""Calibration text -> windows of token ids, and their record; never the text that the gate evaluates with.

A folder of statistics holds its windows, and stands for its text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.errors import InputError
from exporter.contract.placeholders import refuse_placeholders
from exporter.sources.outline import is_outline

if TYPE_CHECKING:
    from calibration.statistics.statistics import Statistics
    from calibration.text.windows import Windows
    from exporter.sources.source import Source

# Calibration text for GPTQ: enough that more does not change the result beyond its noise.
WINDOWS, WINDOW_TOKENS = 32, 256
# Beside the statistics of a folder: the windows they are of, int64 [windows, length], and where these came from.
WINDOWS_FILE, RECORD = "windows.npy", "calibration.json"
# A passage of this many characters in both texts is no coincidence.
_PASSAGE = 200
_LONG_WINDOW = 150


@dataclass(frozen=True, kw_only=True)
class CalibrationData:
    """Seeded windows in the source's own tokens, where they come from, and their statistics where there are any."""

    windows: Windows
    record: dict[str, Any]
    statistics: Statistics | None = None


def read_calibration_data(
    source: Source,
    text: Path | None,
    *,
    field: str = "text",
    evaluation: str | None = None,
    windows: int = WINDOWS,
    window_tokens: int = WINDOW_TOKENS,
) -> CalibrationData:
    """Draw windows from a text.

    Args:
        text: plain text, JSONL, CSV, a dataset's folder, or a folder of statistics; the first half of CPython's own
            prose when None.
        field: the column of a CSV file or dataset, or the key of a JSONL record.
        evaluation: the text that the gate scores; calibrating on it would make the figures worthless.
        windows, window_tokens: how many, and tokens of each (fewer where the model holds fewer).

    Raises:
        InputError: the source has no tokenizer, or the text cannot be used: empty, too short, not UTF-8, or shared with
            the evaluation.
    """
    from calibration.errors import CalibrationError
    from calibration.statistics.statistics import has_statistics
    from calibration.text.text import default_text, read_text
    from calibration.text.windows import draw_windows

    if source.tokenizer is None:
        raise InputError(
            "The model has no tokenizer to calibrate with",
            allowed="a checkpoint with tokenizer.json",
            fix="Add the tokenizer's files to the checkpoint, or use --precision int8, which needs no text.",
        )
    try:
        if text is not None:
            refuse_placeholders(text)
        if text is not None and has_statistics(text):
            return _of_statistics(source, text, evaluation)
        found = default_text() if text is None else read_text(text, field=field)
        if evaluation is not None:
            refuse_shared_text(found.text, evaluation, origin=found.origin)
        ids = source.tokenizer(found.text, add_special_tokens=False, verbose=False)["input_ids"]
        limit = source.model.max_positions or window_tokens
        drawn = draw_windows(ids, count=windows, length=min(window_tokens, limit))
    except CalibrationError as error:
        raise InputError.of(error) from error
    record = {
        "text": found.origin,
        "text_sha256": found.sha256,
        "windows": len(drawn.ids),
        "window_tokens": drawn.ids.shape[1],
        "seed": drawn.seed,
        "windows_sha256": drawn.sha256,
    }
    return CalibrationData(windows=drawn, record=record)


def _of_statistics(source: Source, folder: Path, evaluation: str | None) -> CalibrationData:
    """The windows of a folder of statistics; raises StatisticsError when they are of another model, or unfinished."""
    import numpy as np

    from calibration.errors import CalibrationError
    from calibration.statistics.statistics import Statistics
    from calibration.text.fingerprint import model_fingerprint
    from calibration.text.windows import Windows

    statistics = Statistics(folder)
    if is_outline(source):  # which has no weights to tell models apart by, but names
        _require_layers(source, statistics)
    else:
        statistics.require(model=model_fingerprint(source.module))
    try:
        ids = np.load(folder / WINDOWS_FILE, allow_pickle=False)
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 2:
            raise ValueError(f"{WINDOWS_FILE} holds no windows of token ids")
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        windows, record = Windows(ids=ids, seed=stored["seed"]), dict(stored["record"])
        statistics.require(model=statistics.origin.model, windows=windows.sha256)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CalibrationError):
            raise
        raise InputError(
            f"The windows of the statistics in {folder} cannot be read",
            received=f"{type(error).__name__}: {error}",
            allowed="a folder as `jisu calibrate` writes it",
            fix="Delete the folder and collect again.",
        ) from error
    if evaluation is not None:
        # A window may be shorter than a passage: each is looked for in the evaluation text, less its first and last
        # characters, which may be halves.
        texts = [source.tokenizer.decode(row) for row in windows.ids.tolist()]  # type: ignore[union-attr]
        refuse_shared_text("\n".join(texts), evaluation, origin=str(folder))
        _refuse_shared_windows([text.strip("\ufffd")[4:-4] for text in texts], evaluation, origin=str(folder))
    return CalibrationData(windows=windows, record={**record, "folder": folder.name}, statistics=statistics)


def _require_layers(source: Source, statistics: Statistics) -> None:
    from exporter.quantization.matrices import matrices_of

    known = {name for group in statistics.groups for name in group}
    layers = {matrix.name for matrix in matrices_of(source.module) if not matrix.embedding}
    if not layers <= known:
        raise InputError(
            f"The statistics in {statistics.folder} are of another model",
            received=f"statistics of {len(known)} layers",
            allowed=f"statistics of this model's {len(layers)}",
            fix="Collect statistics of this model.",
        )


def refuse_shared_text(calibration: str, evaluation: str, *, origin: str) -> None:
    """Raise InputError when a passage of the evaluation text stands in the calibration text.

    Looked for are passages at regular places, so that a copied file, a part of it and a file with both are found.
    """
    step = max(_PASSAGE, len(evaluation) // 200)
    passages = [evaluation[start : start + _PASSAGE] for start in range(0, len(evaluation), step)]
    shared = [passage for passage in passages if passage.strip() and passage in calibration]
    if shared:
        raise InputError(
            "The model would be calibrated on the text that its quality is measured with",
            received=f"{origin}, which has {len(shared)} of {len(passages)} passages of the evaluation text, such as "
            f"{shared[0][:60]!r}",
            allowed="two texts without a common passage",
            fix="Choose another text to calibrate with, or another --evaluation.",
        )


def _refuse_shared_windows(windows: list[str], evaluation: str, *, origin: str) -> None:
    """Raise InputError for windows out of the evaluation text: one long one, or a quarter of short ones.

    Two texts on one matter have a phrase of a hundred characters in common now and then.
    """
    shared = [window for window in windows if window.strip() and window in evaluation]
    if any(len(window) >= _LONG_WINDOW for window in shared) or 4 * len(shared) > len(windows):
        raise InputError(
            "The model would be calibrated on the text that its quality is measured with",
            received=f"{origin}, with {len(shared)} of {len(windows)} windows from the evaluation text, such as "
            f"{shared[0][:60]!r}",
            allowed="two texts without a common passage",
            fix="Choose another text to calibrate with, or another --evaluation.",
        )
