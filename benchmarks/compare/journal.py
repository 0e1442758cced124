"""What has been measured so far, line by line on the disk, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError

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
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
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
            self._path.write_text(json.dumps({"plan": key}) + "\n", encoding="utf-8")
        elif not self._path.read_bytes().endswith(b"\n"):  # the line that was being written
            lines = [{"plan": key}, *self.records]
            self._path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

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
