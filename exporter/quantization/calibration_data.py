"""What is calibrated on -> windows of token ids, and their record; never the text that the gate evaluates with.

A folder of statistics holds its windows, and stands for its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.calibration.text.mixture import RANDOM, SHARES
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholders
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.quantization.calibration_errors import as_input_errors
from jisu.exporter.quantization.calibration_mixture import SEED, Mixture, compose_mixture, in_turn, write_own_windows
from jisu.exporter.quantization.calibration_texts import CalibrationTexts, calibration_texts
from jisu.exporter.quantization.prompt_tokens import framed, inner_length, unknown_share
from jisu.exporter.quantization.shared_text import refuse_shared_text, refuse_shared_windows
from jisu.exporter.quantization.stored_windows import read_stored_windows
from jisu.exporter.sources.outline import is_outline

if TYPE_CHECKING:
    from jisu.calibration.statistics.statistics import Statistics
    from jisu.calibration.text.text import CalibrationText
    from jisu.calibration.text.windows import TokenIds, Windows
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.sources.source import Source

# Five of eight are the model's own writing, see `calibration.text.mixture`. More change the result by its noise.
WINDOWS, WINDOW_TOKENS = 32, 256
# A mixed precision needs windows to calibrate, to score single layers and to check whole choices with.
MIX_WINDOWS = WINDOWS * 11 // 8
# What is taken away for the latter two is of all written parts alike, and leaves the mixture's own shares.
MIX_SHARES = {
    part: share * WINDOWS + (0 if part == RANDOM else (MIX_WINDOWS - WINDOWS) / (len(SHARES) - 1))
    for part, share in SHARES.items()
}
# Of a text of the user's, in tokens that the model does not know; of built-in texts it may be fewer.
_MOST_UNKNOWN = 0.5


@dataclass(frozen=True, kw_only=True)
class CalibrationData:
    """Seeded windows in the source's own tokens, where they come from, and their statistics where there are any.

    Attributes:
        windows: those that the model still has to write hold `exporter.quantization.calibration_mixture.UNWRITTEN`.
        record: for the manifest.
        parts: of each window, see `calibration.text.mixture`; empty where nobody knows.
        unwritten: the mixture that `write_calibration_data` completes; None when nothing is missing.
    """

    windows: Windows
    record: dict[str, Any]
    parts: tuple[str, ...] = ()
    statistics: Statistics | None = None
    unwritten: Mixture | None = None

    @property
    def fingerprint(self) -> str:
        """Of what the windows are made of: the same before and after the model's own part of them is written."""
        return str(self.record.get("fingerprint", self.windows.sha256))


def read_calibration_data(
    source: Source,
    texts: CalibrationTexts | str | Path | None = None,
    *,
    field: str = "text",
    evaluation: str | None = None,
    windows: int = WINDOWS,
    window_tokens: int = WINDOW_TOKENS,
    shares: Mapping[str, float] | None = None,
    progress: ReportProgress | None = None,
) -> CalibrationData:
    """Draw all windows, and let the model write its own: `prepare_calibration_data` and `write_calibration_data`."""
    draft = prepare_calibration_data(
        source,
        texts,
        field=field,
        evaluation=evaluation,
        windows=windows,
        window_tokens=window_tokens,
        shares=shares,
    )
    return write_calibration_data(source, draft, progress=progress)


def prepare_calibration_data(
    source: Source,
    texts: CalibrationTexts | str | Path | None = None,
    *,
    field: str = "text",
    evaluation: str | None = None,
    windows: int = WINDOWS,
    window_tokens: int = WINDOW_TOKENS,
    shares: Mapping[str, float] | None = None,
) -> CalibrationData:
    """Draw windows from everything but the model's own writing, which needs its weights and a while.

    Args:
        texts: a file, several, the mixture, or a folder of statistics, see `calibration_texts`; the mixture when None.
        field: the column of a CSV file or dataset, or the key of a JSONL record.
        evaluation: the text that the gate scores; calibrating on it would make the figures worthless.
        windows, window_tokens: how many, and tokens of each (fewer where the model holds fewer).
        shares: of the mixture's parts; its own when None.

    Raises:
        InputError: a text of the user's and no tokenizer, or the text cannot be used: empty, too short, not UTF-8, in
            words that the model does not know, or shared with the evaluation.
    """
    from jisu.calibration.text.windows import Windows

    chosen = texts if isinstance(texts, CalibrationTexts) else calibration_texts(texts, field=field)
    if chosen.files and source.tokenizer is None:
        raise InputError(
            "The model has no tokenizer to read the calibration text with",
            received=chosen.words,
            allowed="a checkpoint with tokenizer.json, or the built-in mixture",
            fix="Add the tokenizer's files to the checkpoint, or leave --calibration out: the model is calibrated on "
            "what it writes itself and on random tokens then.",
        )
    length = min(window_tokens, source.model.max_positions or window_tokens)
    with as_input_errors():
        for path in chosen.files:
            refuse_placeholders(path)
        if (folder := chosen.statistics) is not None:
            return _of_statistics(source, folder, evaluation)
        contents = [_read(path, chosen.field, evaluation) for path in chosen.files]
        drawn = [_windows_of(source, text, count=windows, length=length) for text in contents]
    mixture: Mixture | None = None
    if chosen.mixture:
        mixture = compose_mixture(
            source, windows=windows, length=length, shares=shares, yours=drawn, evaluation=evaluation
        )
        ids, parts = mixture.ids, mixture.parts
    else:
        ids = in_turn([rows[: -(-windows // len(drawn))] for rows in drawn])[:windows]
        parts = ("your text",) * len(ids)
    data = CalibrationData(windows=Windows(ids=ids, seed=SEED), record={}, parts=parts)
    record = {**_describe_texts(contents), **_describe_mixture(mixture, contents), **_describe_windows(data.windows)}
    if mixture is not None and mixture.writing is not None:
        del record["windows_sha256"]
        return replace(data, record=record, unwritten=mixture)
    return replace(data, record=record)


def write_calibration_data(
    source: Source,
    data: CalibrationData,
    *,
    resume: ResumeFolder | None = None,
    progress: ReportProgress | None = None,
) -> CalibrationData:
    """The same with the model's own writing in it; for an outline, which cannot write, as it is.

    Args:
        resume: holds what an export like this one has written, or is to hold it.
        progress: called with the tokens done of each row, and their number.
    """
    from jisu.calibration.text.windows import Windows

    if data.unwritten is None or is_outline(source):
        return data
    mixture = write_own_windows(source, data.unwritten, resume=resume, progress=progress)
    windows = Windows(ids=mixture.ids, seed=data.windows.seed)
    record = {**data.record, "made_of": list(mixture.made_of), **_describe_windows(windows)}
    return CalibrationData(windows=windows, record=record, parts=mixture.parts)


def _read(path: Path, field: str, evaluation: str | None) -> CalibrationText:
    from jisu.calibration.text.text import read_text

    content = read_text(path, field=field)
    if evaluation is not None:
        refuse_shared_text(content.text, evaluation, origin=content.origin)
    return content


def _windows_of(source: Source, text: CalibrationText, *, count: int, length: int) -> TokenIds:
    """Windows of a text of the user's, int64 [at most count, length]."""
    from jisu.calibration.text.windows import draw_windows

    ids = source.tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[misc]
    unknown = unknown_share(source, ids)
    if unknown > _MOST_UNKNOWN:
        raise InputError(
            f"The tokenizer does not know the words of {text.origin}",
            received=f"a text of which {unknown:.0%} of the tokens are unknown",
            allowed=f"at most {_MOST_UNKNOWN:.0%}",
            fix="Give text like what the model was trained on.",
        )
    return framed(source, draw_windows(ids, count=count, length=inner_length(source, length), seed=SEED).ids)


def _describe_texts(texts: Sequence[CalibrationText]) -> dict[str, Any]:
    if len(texts) == 1:
        return {"text": texts[0].origin, "text_sha256": texts[0].sha256}
    if not texts:
        return {}
    return {
        "text": ", ".join(text.origin for text in texts),
        "texts": [{"text": text.origin, "sha256": text.sha256} for text in texts],
    }


def _describe_mixture(mixture: Mixture | None, texts: Sequence[CalibrationText]) -> dict[str, Any]:
    if mixture is None:
        return {}
    more = f" and {', '.join(text.origin for text in texts)}" if texts else ""
    return {
        "text": f"the built-in mixture{more}",
        "made_of": list(mixture.made_of),
        **({"left_out": list(mixture.left_out)} if mixture.left_out else {}),
        "fingerprint": mixture.fingerprint,
    }


def _describe_windows(windows: Windows) -> dict[str, Any]:
    return {
        "windows": len(windows.ids),
        "window_tokens": windows.ids.shape[1],
        "seed": windows.seed,
        "windows_sha256": windows.sha256,
    }


def _of_statistics(source: Source, folder: Path, evaluation: str | None) -> CalibrationData:
    """The windows of a folder of statistics; raises StatisticsError when they are of another model, or unfinished."""
    from jisu.calibration.statistics.statistics import Statistics
    from jisu.calibration.text.fingerprint import model_fingerprint
    from jisu.calibration.text.windows import Windows

    statistics = Statistics(folder)
    if is_outline(source):  # which has no weights to tell models apart by, but names
        _require_layers(source, statistics)
    else:
        statistics.require(model=model_fingerprint(source.module))
    stored = read_stored_windows(folder)
    windows = Windows(ids=stored.ids, seed=stored.seed)
    statistics.require(model=statistics.origin.model, windows=windows.sha256)
    if evaluation is not None and source.tokenizer is not None:
        # A window may be shorter than a passage: each is looked for in the evaluation text, less its first and last
        # characters, which may be halves.
        texts = [source.tokenizer.decode(row) for row in stored.ids.tolist()]
        refuse_shared_text("\n".join(texts), evaluation, origin=str(folder))
        refuse_shared_windows([text.strip("\ufffd")[4:-4] for text in texts], evaluation, origin=str(folder))
    record = {**stored.record, "folder": folder.name}
    return CalibrationData(windows=windows, record=record, parts=stored.parts, statistics=statistics)


def _require_layers(source: Source, statistics: Statistics) -> None:
    from jisu.exporter.quantization.matrices import matrices_of

    known = {name for group in statistics.groups for name in group}
    layers = {matrix.name for matrix in matrices_of(source.module) if not matrix.embedding}
    if not layers <= known:
        raise InputError(
            f"The statistics in {statistics.folder} are of another model",
            received=f"statistics of {len(known)} layers",
            allowed=f"statistics of this model's {len(layers)}",
            fix="Collect statistics of this model.",
        )
