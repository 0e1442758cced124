"""Plans on disk: each beside a record of what it was built from, so that another one is never taken for it.

``<backend>-<sm89 or gpu>.plan.gz``, an encoder's ``<backend>-<sm89 or gpu>.encoder.plan.gz``, and the same names with
``.json``. A plan is used when its record says exactly what is wanted now and its bytes are those that the record was
written for.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import Artifact, hash_file
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.plan_graph import PlanGraph
from jisu.runtimes.backends.tensorrt.profiles import Shapes

_ELSEWHERE = "Choose another one: jisu build ARTIFACT --out FOLDER, and --plan FOLDER to run it."
PLAN = ".plan.gz"  # what plans' names end in
_SCHEMA = 1
# The key's entries in words, for whoever asks why a plan is built again.
_WORDS = {
    "graph": "the graph or its weights changed",
    "library": "the library is another one",
    "target": "it is for another GPU",
    "shapes": "capacity, prompt or batch changed",
    "options": "the profiles or options changed",
}


@dataclass(frozen=True, kw_only=True)
class PlanKey:
    """Everything that a plan depends on.

    Attributes:
        graph: SHA-256 of the graph and of its weights.
        library: name and version.
        target: ``sm89``, or the name and compute capability of a GPU.
        shapes: capacity, prompt, batch, and the source's length where there is an encoder.
        options: how it was built.
    """

    graph: tuple[str, ...]
    library: str
    target: str
    shapes: Shapes
    options: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        data["shapes"] = {name: size for name, size in data["shapes"].items() if size is not None}
        return data


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """What lies beside a plan. ``notes`` say what the build decided by itself."""

    key: dict[str, Any]
    size: int
    sha256: str
    seconds: float
    notes: tuple[str, ...] = ()


def graph_hashes(artifact: Artifact, graph: PlanGraph) -> tuple[str, ...]:
    """The hashes that the manifest records of a graph and of its weights."""
    files = artifact.manifest.files
    return tuple(files[name].sha256 for name in graph.files if name in files)


def plan_path(folder: Path, *, backend: str, target: str) -> Path:
    """Where the plan of a target lies in a folder."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in target.lower())
    return folder / f"{backend}-{plain}{PLAN}"


def part_path(path: Path, part: str) -> Path:
    """Where the plan of another part of a model lies, given that of its main one; see `PlanGraph.part`."""
    return path.with_name(f"{path.name.removesuffix(PLAN)}.{part}{PLAN}") if part else path


def reason_to_build(path: Path, key: PlanKey) -> str | None:
    """Why the plan at ``path`` cannot be used for ``key``; None when it can."""
    if not path.is_file():
        return "there is none yet"
    try:
        record = read_record(path)
    except InputError as error:
        return str(error)
    expected = key.to_dict()
    changed = [words for name, words in _WORDS.items() if record.key.get(name) != expected[name]]
    if changed:
        return ", ".join(changed)
    return _damage(path, record)


def read_plan(path: Path, key: PlanKey) -> bytes:
    """The bytes of a plan that was built for exactly this key.

    Raises:
        InputError: it is missing, corrupted, or another one; the message says which.
    """
    reason = reason_to_build(path, key)
    if reason is not None:
        raise InputError(
            f"The plan {path} cannot be used",
            received=reason,
            allowed=f"a plan of this artifact for {key.target} by {key.library}",
            fix="Build it: jisu build ARTIFACT --backend NAME --out FOLDER.",
        )
    return path.read_bytes()


def read_record(path: Path) -> PlanRecord:
    """The record beside a plan; raises InputError when it is missing or no record."""
    place = _record_path(path)
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
        if data.pop("schema") != _SCHEMA:
            raise ValueError("another schema")
        record = PlanRecord(**{**data, "notes": tuple(data.get("notes", ()))})
        if not isinstance(record.key, dict):
            raise TypeError("its key is no object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its record {place.name} is missing or damaged ({type(error).__name__})") from error
    return record


def require_folder(folder: Path, *, room: int = 0) -> None:
    """Raise InputError for a folder that takes no files or has too little room, before anything long begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".writable.")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise InputError(
            f"No plan can be written to {folder}",
            received=error.strerror or error,
            allowed="a folder that takes files",
            fix=_ELSEWHERE,
        ) from error
    free = shutil.disk_usage(folder).free
    if free < room:
        raise InputError(
            f"There is no room for a plan in {folder}",
            received=f"{free / 1e6:.0f} MB free",
            allowed=f"more than {room / 1e6:.0f} MB, what its weights take",
            fix=f"Make room. {_ELSEWHERE}",
        )


def write_plan(path: Path, plan: Any, record: PlanRecord) -> None:
    """Write a plan and its record, each whole or not at all.

    Raises:
        InputError: the folder takes no files, or is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _record_path(path).unlink(missing_ok=True)  # a record never stands beside another plan than its own
        _write(path, plan)
        text = json.dumps({"schema": _SCHEMA, **asdict(record)}, indent=2) + "\n"
        _write(_record_path(path), text.encode("utf-8"))
    except OSError as error:
        raise InputError(
            f"The plan cannot be written to {path.parent}",
            received=error.strerror or error,
            allowed=f"a folder with room for {len(memoryview(plan)) / 1e6:.0f} MB",
            fix="Make room, or choose another --out.",
        ) from error


def _write(path: Path, data: Any) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _damage(path: Path, record: PlanRecord) -> str | None:
    size = path.stat().st_size
    if size != record.size:
        return f"it has {size} bytes instead of {record.size}"
    return None if hash_file(path) == record.sha256 else "its bytes are not those that were written"
