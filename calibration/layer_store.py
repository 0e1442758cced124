"""Keeps the finished layers of a sequential quantization in a folder, so that it can be resumed.

One file per decoder layer, written under a temporary name and renamed; a file that says what they were made of.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from calibration.errors import StatisticsError
from calibration.statistics.statistics import Origin
from calibration.weights.formats import BlockFormat, BlockQuantized

INDEX = "quantized.json"


class FolderStore:
    """Results by decoder layer; see `calibration.sequential.LayerStore`."""

    def __init__(self, folder: str | Path, origin: Origin) -> None:
        """Open or begin a folder.

        Args:
            folder: created when missing.
            origin: of what the layers are; ``settings`` should name the algorithm, its options and the formats.

        Raises:
            StatisticsError: the folder holds layers of another origin, or its index is damaged.
        """
        self._folder = Path(folder)
        index = self._folder / INDEX
        expected = json.loads(json.dumps(asdict(origin)))
        if index.exists():
            try:
                stored = json.loads(index.read_text(encoding="utf-8"))
            except ValueError:
                stored = None
            if stored != expected:
                raise StatisticsError(
                    f"{self._folder} holds layers quantized from something else",
                    received="another model, text or setting" if stored else "a damaged index",
                    allowed="an empty folder, or one of the same model, text and settings",
                    fix="Choose another folder.",
                )
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = index.with_suffix(".json.partial")
        partial.write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(index)

    def load(self, index: int) -> dict[str, BlockQuantized] | None:
        """The results of a layer, or None when it was not finished.

        Raises:
            StatisticsError: its file is damaged.
        """
        path = self._path(index)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                formats = json.loads(str(arrays["formats"]))
                return {
                    name: BlockQuantized(
                        codes=arrays[f"{name}/codes"],
                        scales=arrays[f"{name}/scales"],
                        zero_points=arrays[f"{name}/zero_points"],
                        format=BlockFormat(**fields),
                        channel_scales=arrays.get(f"{name}/channel_scales"),
                        sums=int(arrays.get(f"{name}/sums", 0)),
                    )
                    for name, fields in formats.items()
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
            raise StatisticsError(
                f"The quantized layer {path} is damaged",
                received=str(error) or type(error).__name__,
                allowed="a file as it was written",
                fix="Delete that file; the layer is then quantized again.",
            ) from error

    def save(self, index: int, results: dict[str, BlockQuantized]) -> None:
        """Keep the results of a layer."""
        arrays = {"formats": np.array(json.dumps({name: asdict(result.format) for name, result in results.items()}))}
        for name, result in results.items():
            arrays[f"{name}/codes"] = result.codes
            arrays[f"{name}/scales"] = result.scales
            arrays[f"{name}/zero_points"] = result.zero_points
            if result.sums:
                arrays[f"{name}/sums"] = np.array(result.sums)
            if result.channel_scales is not None:
                arrays[f"{name}/channel_scales"] = result.channel_scales
        path = self._path(index)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)

    def _path(self, index: int) -> Path:
        return self._folder / f"layer-{index:05d}.npz"
