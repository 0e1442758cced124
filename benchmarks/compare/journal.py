"""What has been measured so far, line by line on the disk, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.output_path import cannot_write

NAME = "progress.jsonl"


@contextmanager
def sole_run(folder: Path, *, name: str = NAME) -> Iterator[None]:
    """Keep other runs from this folder's journal; the system lifts the lock however this process ends.

    Raises:
        InputError: another run holds it. It would be taken for an interrupted one, and each would disturb the other.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    try:
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise cannot_write(folder, error, what="report", option="--out") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another comparison is writing its report into {folder} now",
                received="a folder that another process has locked",
                allowed="one at a time for each folder",
                fix="Wait for it, or name another folder with --out.",
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


class Journal:
    """The records of one run; those of an earlier one with the same settings are there already.

    Args:
        folder: where it lies.
        settings: everything that the measurement depends on; others begin anew.
        name: of the file.
    """

    def __init__(self, folder: Path, settings: Any, *, name: str = NAME) -> None:
        self._path = folder / name
        key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        self.records = _read(self._path, key)
        if not self.records:
            self._write([{"plan": key}], mode="w")
        elif not self._path.read_bytes().endswith(b"\n"):  # the line that was being written
            self._write([{"plan": key}, *self.records], mode="w")

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record; raises InputError where the disk has no room for it."""
        self.records.append(record)
        self._write([record], mode="a")

    def _write(self, records: Sequence[dict[str, Any]], *, mode: Literal["a", "w"]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as stream:
                stream.writelines(json.dumps(record) + "\n" for record in records)
        except OSError as error:
            raise cannot_write(self._path.parent, error, what="report", option="--out") from error

    def remove(self) -> None:
        """The report is written: there is nothing to resume."""
        self._path.unlink(missing_ok=True)


def _read(path: Path, key: str) -> list[dict[str, Any]]:
    """The records of the same settings; none where there are none, or the file cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        if json.loads(lines[0]) != {"plan": key}:
            return []
    except (OSError, ValueError):
        return []
    records = []
    for line in lines[1:]:
        try:
            record = json.loads(line)
        except ValueError:  # cut off
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    return records
