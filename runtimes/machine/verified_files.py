"""Whether an artifact's files have the hashes that its export recorded: compared once on a machine, then remembered.

What is remembered is, for each file, what the file system says of it: its size, its place and when it was changed. A
copy, an edit or a damage that went through the file system changes one of them, and the file is read again. The records
are in the user's cache folder; where that cannot be written, every process looks for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact, hash_file
from jisu.exporter.contract.errors import InputError

_FOLDER = Path("jisu") / "verified"
_IN_THIS_PROCESS: dict[str, dict[str, Any]] = {}


def verify_once(artifact: Artifact) -> int:
    """Compare the hashes of the files that were not compared on this machine since they were changed.

    Returns:
        How many files were read.

    Raises:
        InputError: files have other hashes than recorded; all of them are named at once.
    """
    place = str(artifact.folder.resolve())
    known = _read(place)
    now = {name: _facts(artifact.folder / name, record.sha256) for name, record in artifact.manifest.files.items()}
    unknown = [name for name, facts in now.items() if known.get(name) != facts]
    damaged = [name for name in unknown if hash_file(artifact.folder / name) != artifact.manifest.files[name].sha256]
    if damaged:
        raise InputError(
            f"The artifact {artifact.folder} is damaged",
            received="; ".join(f"{name} has another SHA-256 than recorded" for name in damaged),
            allowed="the files as the export wrote them",
            fix="Export the model again or restore the files.",
        )
    if unknown:
        _write(place, now)
    return len(unknown)


def cache_folder() -> Path:
    """Where the user's caches are, by the XDG base directory specification."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return Path(configured) if Path(configured).is_absolute() else Path("~/.cache").expanduser()


def _facts(path: Path, sha256: str) -> dict[str, Any]:
    status = path.stat()
    return {
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "changed": status.st_ctime_ns,
        "file": f"{status.st_dev}:{status.st_ino}",
        "sha256": sha256,
    }


def _record_of(place: str) -> Path:
    return (
        cache_folder() / _FOLDER / f"{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    )


def _read(place: str) -> dict[str, Any]:
    if place in _IN_THIS_PROCESS:
        return _IN_THIS_PROCESS[place]
    with contextlib.suppress(OSError, ValueError, RuntimeError, RecursionError):
        record = json.loads(_record_of(place).read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.get("artifact") == place and isinstance(record.get("files"), dict):
            files: dict[str, Any] = record["files"]
            return files
    return {}


def _write(place: str, files: dict[str, Any]) -> None:
    _IN_THIS_PROCESS[place] = files
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        path = _record_of(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"artifact": place, "files": files}), encoding="utf-8")
        partial.replace(path)
