"""What has been measured so far, line by line on the disk, so that a run that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

NAME = "progress.jsonl"


class Journal:
    """The records of one run; those of an earlier one with the same plan are there already.

    Args:
        folder: where it lies.
        plan: everything that the measurement depends on; another plan begins anew.
        name: of the file.
    """

    def __init__(self, folder: Path, plan: Any, *, name: str = NAME) -> None:
        self._path = folder / name
        key = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()
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
        """The report is written: there is nothing to go on with."""
        self._path.unlink(missing_ok=True)


def _read(path: Path, key: str) -> list[dict[str, Any]]:
    """The records of the same plan; none where there are none, or the file cannot be read."""
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
