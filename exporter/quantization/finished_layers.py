"""Keeps the integers of calibrated layers, and what enters the next one, for an export that was ended to go on from."""

from __future__ import annotations

import contextlib
import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.jobs.output_path import cannot_write
from jisu.exporter.jobs.resume_folder import Arrays, ResumeFolder

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockQuantized

_RECORD = "record"
_ARRAYS = ("codes", "scales", "zero_points", "channel_scales", "columns")
_FINER = "finer"


@dataclass(frozen=True)
class FinishedLayers:
    """See `calibration.sequential.KeptLayers`."""

    folder: ResumeFolder
    layers: int

    def load(self) -> tuple[list[dict[str, BlockQuantized]], npt.NDArray[np.float32] | None]:
        """Results of the first layers, and what enters the layer after them; None where all are finished."""
        known: list[dict[str, BlockQuantized]] = []
        while len(known) < self.layers and (arrays := self.folder.load(_layer(len(known)))) is not None:
            known.append(_results(arrays))
        if len(known) == self.layers:
            return known, None
        # A layer may have been kept and what enters the next one not yet.
        for count in range(len(known), 0, -1):
            entering = self.folder.load(_entering(count))
            if entering is not None:
                return known[:count], entering["states"]
        return [], None

    def save(self, layer: int, results: Mapping[str, BlockQuantized], entering: npt.NDArray[np.float32] | None) -> None:
        """Keep a layer's results, then what enters the next one, then forget what entered this one."""
        self.folder.save(_layer(layer), _arrays(results))
        if entering is not None:
            self.folder.save(_entering(layer + 1), {"states": entering})
        self.folder.drop(_entering(layer))


@contextlib.contextmanager
def statistics_folder(resume: ResumeFolder | None) -> Iterator[Path]:
    """Where statistics are collected, which keep their own books of what is finished.

    Raises:
        InputError: its disk is full.
    """
    with contextlib.ExitStack() as stack:
        if resume is not None:
            folder, option = resume.place("statistics"), "--out"
        else:
            folder, option = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jisu-"))), "TMPDIR"
        try:
            yield folder
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise cannot_write(folder.parent, error, what="statistics", option=option) from error


def _layer(number: int) -> str:
    return f"layer-{number:05d}"


def _entering(number: int) -> str:
    return f"entering-{number:05d}"


def _arrays(results: Mapping[str, BlockQuantized]) -> Arrays:
    arrays: Arrays = {}
    record: list[dict[str, Any]] = []
    for number, (name, result) in enumerate(results.items()):
        record.append({"name": name, **_facts(result)})
        record[-1][_FINER] = [_facts(part) for part in result.finer]
        parts = {f"{number}": result, **{_finer(number, place): part for place, part in enumerate(result.finer)}}
        for place, part in parts.items():
            for field in _ARRAYS:
                value = getattr(part, field)
                if value is not None:
                    arrays[f"{place}.{field}"] = value
    arrays[_RECORD] = np.frombuffer(json.dumps(record).encode("utf-8"), np.uint8)
    return arrays


def _results(arrays: Arrays) -> dict[str, BlockQuantized]:
    results = {}
    for number, entry in enumerate(json.loads(arrays[_RECORD].tobytes())):
        result = _result(arrays, f"{number}", entry)
        finer = (_result(arrays, _finer(number, place), facts) for place, facts in enumerate(entry[_FINER]))
        results[entry["name"]] = replace(result, finer=tuple(finer))
    return results


def _finer(number: int, place: int) -> str:
    return f"{number}.{_FINER}{place}"


def _facts(result: BlockQuantized) -> dict[str, Any]:
    """What is no array of a result."""
    return {"format": asdict(result.format), "sums": result.sums, "unreached": result.unreached}


def _result(arrays: Arrays, place: str, facts: Mapping[str, Any]) -> BlockQuantized:
    from jisu.calibration.weights.formats import BlockFormat, BlockQuantized

    fields: dict[str, Any] = {field: arrays.get(f"{place}.{field}") for field in _ARRAYS}
    form = BlockFormat(**facts["format"])
    return BlockQuantized(**fields, format=form, sums=facts["sums"], unreached=facts.get("unreached", False))
