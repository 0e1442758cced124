"""Collected statistics on disk: one JSON file that says what they are of, one array file per group of layers.

Read lazily, group by group. Written as a whole: arrays go to a new folder, and the JSON file that names it replaces the
old one in a single rename, so that an interruption leaves the former state.
"""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import StatisticsError
from jisu.calibration.weights.formats import Floats

SCHEMA = 1
INDEX = "statistics.json"
_ENTRIES = {
    "model": str,
    "windows": str,
    "settings": dict,
    "windows_done": int,
    "windows_wanted": int,
    "arrays": str,
    "groups": list,
}


# What a damaged array file raises; an encrypted or otherwise compressed member is a RuntimeError.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    TokenError,  # of numpy, for a damaged header
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What statistics are of; two with equal origins are interchangeable.

    Attributes:
        model: see `calibration.text.fingerprint.model_fingerprint`.
        windows: hash of the calibration windows.
        settings: what was collected, JSON-able.
    """

    model: str
    windows: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class InputStatistics:
    """What is known about the input of a group of layers, over ``tokens`` tokens.

    Attributes:
        names: the layers that read it.
        tokens: rows seen.
        sum_abs, sum_square: of each channel, float64 [K].
        max_abs: of each channel, float32 [K].
        gram: X^T X, float32 [K, K], where collected.
        output_max_abs: largest |y| of each layer in ``names``.
    """

    names: tuple[str, ...]
    tokens: int
    sum_abs: npt.NDArray[np.float64]
    max_abs: Floats
    sum_square: npt.NDArray[np.float64]
    gram: Floats | None
    output_max_abs: tuple[float, ...]

    @property
    def mean_abs(self) -> Floats:
        """Mean |x| of each channel, float32 [K]."""
        return np.asarray(self.sum_abs / max(1, self.tokens), dtype=np.float32)

    @property
    def mean_square(self) -> Floats:
        """Mean x**2 of each channel, float32 [K]: the diagonal of the Hessian."""
        return np.asarray(self.sum_square / max(1, self.tokens), dtype=np.float32)

    @property
    def hessian(self) -> Floats:
        """Mean of x x^T, float32 [K, K].

        Raises:
            StatisticsError: it was not collected.
        """
        if self.gram is None:
            raise StatisticsError(
                f"The statistics of {self.names[0]} hold no Hessian",
                received="statistics collected without Hessians",
                allowed="statistics collected with them",
                fix="Collect again with hessians=True.",
            )
        return np.asarray(self.gram / np.float32(max(1, self.tokens)), dtype=np.float32)


class Statistics:
    """A folder of statistics, opened."""

    def __init__(self, folder: str | Path) -> None:
        """Read the index.

        Raises:
            StatisticsError: no statistics there, damaged ones, or of another schema.
        """
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.origin = Origin(model=index["model"], windows=index["windows"], settings=index["settings"])
        self.windows_done: int = index["windows_done"]
        self.windows_wanted: int = index["windows_wanted"]
        self.groups: tuple[tuple[str, ...], ...] = tuple(tuple(names) for names in index["groups"])
        self._arrays = self.folder / index["arrays"]
        self._place = {name: i for i, names in enumerate(self.groups) for name in names}

    def require(self, *, model: str, windows: str | None = None) -> None:
        """Refuse statistics of another model, of other windows (if given), or unfinished ones.

        Raises:
            StatisticsError: they do not belong to it.
        """
        if self.origin.model != model:
            raise StatisticsError(
                f"The statistics in {self.folder} are of another model",
                received=f"statistics of the model {self.origin.model[:12]}",
                allowed=f"statistics of the model {model[:12]}",
                fix="Collect statistics of this model.",
            )
        if windows is not None and self.origin.windows != windows:
            raise StatisticsError(
                f"The statistics in {self.folder} are of another text",
                received=f"windows {self.origin.windows[:12]}",
                allowed=f"windows {windows[:12]}",
                fix="Collect statistics on this text, or use the text they are of.",
            )
        if self.windows_done < self.windows_wanted:
            raise StatisticsError(
                f"The statistics in {self.folder} are unfinished",
                received=f"{self.windows_done} of {self.windows_wanted} windows",
                allowed="finished statistics",
                fix="Start the same collection again; it resumes where it stopped.",
            )

    def of(self, name: str, *, unreached: bool = False) -> InputStatistics:
        """The statistics of a layer's input, read now.

        Args:
            unreached: take a layer that the text never reached, too.

        Raises:
            StatisticsError: the layer is not among them, was never reached, or its file is damaged.
        """
        if name not in self._place:
            raise StatisticsError(
                f"The statistics in {self.folder} do not know the layer {name}",
                received=name,
                allowed=f"one of {len(self._place)} layers such as {next(iter(self._place), 'none')}",
                fix="Collect statistics of this model.",
            )
        group = self.read_group(self._place[name])
        if not group.tokens and not unreached:
            raise StatisticsError(
                f"The calibration text never reached {name}",
                received="0 tokens",
                allowed="at least one token",
                fix="Keep that layer, or calibrate with more and other text.",
            )
        return group

    def read_group(self, index: int) -> InputStatistics:
        """The statistics of a group by its place in ``groups``."""
        path = self._arrays / _file_of(index)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                data = {key: arrays[key] for key in arrays.files}
            return _from_arrays(self.groups[index], data)
        except _UNREADABLE as error:
            raise StatisticsError(
                f"The statistics file {path} is damaged",
                received=str(error) or type(error).__name__,
                allowed="a file as it was written",
                fix="Delete the folder and collect again.",
            ) from error


def write_statistics(
    folder: Path, origin: Origin, groups: Iterable[InputStatistics], *, windows_done: int, windows_wanted: int
) -> None:
    """Write all groups, then make them the folder's content in one rename; raises OSError where that is impossible."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"after-{windows_done}"
    temporary = folder / f"{name}.partial"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    names = []
    try:
        for i, group in enumerate(groups):
            names.append(list(group.names))
            np.savez(temporary / _file_of(i), **_to_arrays(group))  # type: ignore[arg-type]
    except OSError:  # a full disk: what is there of it helps nobody, and the former state stays
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if (folder / name).exists():
        shutil.rmtree(folder / name)
    temporary.rename(folder / name)
    index = {
        "schema": SCHEMA,
        **asdict(origin),
        "windows_done": windows_done,
        "windows_wanted": windows_wanted,
        "arrays": name,
        "groups": names,
    }
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(folder / INDEX)
    for old in folder.glob("after-*"):
        if old.name != name:
            shutil.rmtree(old)


def has_statistics(folder: Path) -> bool:
    """Whether the folder holds finished or unfinished statistics."""
    try:
        return (folder / INDEX).exists()
    except OSError:  # no path that the system could have, such as one too long
        return False


def is_leftover(path: Path) -> bool:
    """Whether an entry of a folder is what a killed `write_statistics` leaves there before its first index."""
    return path.name == f"{INDEX}.partial" or (path.is_dir() and path.name.startswith("after-"))


def _file_of(index: int) -> str:
    return f"group-{index:05d}.npz"


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA:
            raise ValueError(f"schema {index['schema']}")
        for key, kind in _ENTRIES.items():
            if not isinstance(index[key], kind):
                raise ValueError(f"{key} is {index[key]!r:.40}")
        lists = all(isinstance(names, list) and names for names in index["groups"])
        if not lists or not all(isinstance(name, str) for names in index["groups"] for name in names):
            raise ValueError("groups that are no lists of names")
        # The folder's name comes from a file; it must not lead elsewhere.
        if Path(index["arrays"]).name != index["arrays"]:
            raise ValueError(f"arrays in {index['arrays']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatisticsError(
            f"There are no usable statistics in {folder}",
            received=f"{type(error).__name__}: {error}",
            allowed=f"a folder with a {INDEX} of schema {SCHEMA}",
            fix="Collect statistics into that folder first.",
        ) from error
    return index  # type: ignore[no-any-return]


def _to_arrays(group: InputStatistics) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "tokens": np.array(group.tokens, dtype=np.int64),
        "sum_abs": group.sum_abs,
        "max_abs": group.max_abs,
        "sum_square": group.sum_square,
        "output_max_abs": np.array(group.output_max_abs, dtype=np.float64),
    }
    if group.gram is not None:
        arrays["gram"] = group.gram
    return arrays


def _from_arrays(names: tuple[str, ...], arrays: dict[str, npt.NDArray[Any]]) -> InputStatistics:
    return InputStatistics(
        names=names,
        tokens=int(arrays["tokens"]),
        sum_abs=arrays["sum_abs"],
        max_abs=arrays["max_abs"],
        sum_square=arrays["sum_square"],
        gram=arrays.get("gram"),
        output_max_abs=tuple(float(value) for value in arrays["output_max_abs"]),
    )
