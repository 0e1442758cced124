"""An artifact on disk: the folder's manifest, its files and their hashes, and how it comes to be there.

Standard library only. A folder is an artifact exactly when it holds a readable ``manifest.json`` whose files are all
present in the recorded sizes; it is written under a temporary name and renamed, so that no half of one is ever seen.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from exporter.errors import InputError
from exporter.manifest_rules import manifest_problems
from exporter.signature import LOGITS, Signature

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
TOKENIZER = "tokenizer.json"
# How long each step took and how much memory it needed: true of one run, hence beside the manifest and not hashed.
TIMINGS = "timings.json"
STAGING_SUFFIX = ".partial"
_LONGEST_NAME = 255  # bytes, on every common file system

Target = Literal["portable", "ort-cpu", "ort-cuda", "tensorrt"]
TARGETS: tuple[Target, ...] = ("portable", "ort-cpu", "ort-cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file of the artifact."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a runtime has to know of the model besides its graph.

    ``max_positions`` is None for a model without a limit (a recurrent one). ``bos`` and ``pad`` are token ids or None;
    ``eos`` lists every id that ends an answer.
    """

    architecture: str
    vocab_size: int
    max_positions: int | None
    layers: int
    parameters: int
    bos: int | None
    eos: tuple[int, ...]
    pad: int | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``manifest.json``. The dictionaries are records for people."""

    target: str
    precision: str
    model: ModelFacts
    signature: Signature
    recipe: list[dict[str, Any]]
    gate: dict[str, Any]
    quantization: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileRecord] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder that was found to be a complete artifact."""

    folder: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH

    @property
    def size(self) -> int:
        """Bytes of all recorded files."""
        return sum(record.size for record in self.manifest.files.values())


def read_artifact(folder: str | Path, *, check_hashes: bool = False) -> Artifact:
    """Open an artifact: read its manifest, check every file's size and, on request, its SHA-256.

    Raises:
        InputError: the folder is no artifact, is of a newer schema, or a file is missing, truncated or altered;
            all damaged files are named at once.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    damage = [
        line
        for name, record in manifest.files.items()
        if (line := _damage(folder, name, record, check_hash=check_hashes))
    ]
    damage += [f"{name} is not recorded" for name in _names(folder) if name not in manifest.files]
    if damage:
        raise InputError(
            f"The artifact {folder} is damaged: {'; '.join(damage)}",
            allowed="the files as the export wrote them",
            fix="Export the model again or restore the files.",
        )
    return Artifact(folder=folder, manifest=manifest)


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Hash every file below ``folder`` except the manifest and the timings; names use forward slashes, sorted."""
    return {
        name: FileRecord(size=(folder / name).stat().st_size, sha256=hash_file(folder / name))
        for name in _names(folder)
    }


def _names(folder: Path) -> list[str]:
    """Every file below a folder that a manifest records; a name with a dot first is nobody's to read (.DS_Store)."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name not in (MANIFEST, TIMINGS) and not name.startswith(".")]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_place(out: Path, *, checkpoint: str | Path) -> None:
    """Raise InputError when an artifact cannot come to lie at ``out``; nothing is written to find out.

    An export never overwrites, and never writes into the checkpoint it reads.
    """
    _refuse_name(out)
    refuse_existing(out)
    place = next(parent for parent in out.absolute().parents if parent.exists())
    source = Path(checkpoint)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"The output folder {out} lies inside the checkpoint",
            received=out,
            allowed="a folder outside of it",
            fix="Choose another --out.",
        )
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"No output folder can be made in {place}",
            received="a file" if not place.is_dir() else "a folder that cannot be written",
            allowed="a writable folder",
            fix="Choose another --out.",
        )


def _refuse_name(out: Path) -> None:
    """Raise InputError when the name cannot be a folder's, or leaves no room for that of the temporary one."""
    temporary = f".{out.name}.12345678{STAGING_SUFFIX}"
    try:
        fits = all(len(part.encode("utf-8")) <= _LONGEST_NAME for part in (*out.parts, temporary))
        os.lstat(out.parent)  # a whole path may be too long for the system as well
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # said in better words by who looks at the parents
    except (OSError, ValueError):  # too long, not UTF-8
        fits = False
    if not fits or "\0" in str(out):
        raise InputError(
            "The output folder cannot have this name",
            received=ascii(str(out)[:80]),
            allowed=f"UTF-8 without NUL, parts of at most {_LONGEST_NAME - len(temporary) + len(out.name)} bytes",
            fix="Choose another --out.",
        )


def refuse_existing(out: Path) -> None:
    """Raise InputError when ``out`` exists: an export never overwrites."""
    if out.exists() or out.is_symlink():
        raise InputError(
            f"The output folder {out} already exists",
            allowed="a path that does not exist yet",
            fix="Choose another --out or remove the folder first.",
        )


@contextlib.contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``; it is removed on leaving unless it was renamed by `publish`.

    Parents of ``out`` that had to be made are removed too when nothing came to lie in them.

    The name starts with a dot and ends in ``.partial``: an interrupted export leaves nothing that looks like an
    artifact.
    """
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=STAGING_SUFFIX, dir=out.parent))
    except OSError as error:
        _remove_empty(made)
        raise InputError(
            f"No output folder can be made in {out.parent}",
            received=error.strerror or error,
            allowed="a writable folder",
            fix="Choose another --out.",
        ) from error
    lock = _locked(folder)
    try:
        folder.chmod(0o755)  # mkdtemp makes it private; an artifact is as readable as any other file of the user
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        _remove_empty(made)
        if lock is not None:
            os.close(lock)


def remove_stale(out: Path) -> list[Path]:
    """Remove temporary folders for ``out`` that a killed export left behind, and return them.

    An export holds a lock on its folder for as long as it lives, which the system lifts however it ends: a folder whose
    lock can be had is nobody's. Where the system knows no such locks nothing is removed, nor are
    empty folders, which an export may be about to lock.
    """
    pattern = f".{glob.escape(out.name)}.*{STAGING_SUFFIX}"
    removed = []
    for folder in sorted(out.parent.glob(pattern)):
        # An export that has just made its folder is about to lock it; it is empty until then.
        if folder.is_symlink() or not folder.is_dir() or next(folder.iterdir(), None) is None:
            continue
        lock = _locked(folder)
        if lock is None:
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
        if not folder.exists():
            removed.append(folder)
    return removed


def _locked(folder: Path) -> int | None:
    """An open handle that holds the folder's lock; None when another process has it or there are no locks here."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, innermost first, as far as they are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def publish(staged: Path, out: Path) -> None:
    """Flush the staged files to the disk and give the folder its final name in one step."""
    for path in (*staged.rglob("*"), staged):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    refuse_existing(out)
    staged.rename(out)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder} is not an artifact: {MANIFEST} cannot be read",
            received=error.strerror,
            allowed="a folder written by `jisu export`",
            fix="Check the path, or export the model first.",
        ) from error
    try:
        data = json.loads(content.decode("utf-8"))
        version = data["schema_version"]
        if version == SCHEMA_VERSION:
            return _manifest_from_dict(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a manifest",
            received=f"{type(error).__name__}: {error}",
            fix="Export the model again.",
        ) from error
    raise InputError(
        f"{path} has a schema that this version cannot read",
        received=version,
        allowed=SCHEMA_VERSION,
        fix="Update jisu, or export the model again with this version.",
    )


def _manifest_from_dict(data: dict[str, Any]) -> Manifest:
    problems = manifest_problems(data)
    if isinstance(data.get("files"), dict) and GRAPH not in data["files"]:
        problems.append(f"files has no {GRAPH}")
    if problems:
        raise ValueError("; ".join(problems))
    model = {**data["model"], "eos": tuple(data["model"]["eos"])}
    signature = Signature.from_dict(data["signature"])
    for spec in signature.outputs:
        columns = spec.dims[-1] if spec.name == LOGITS and spec.dims else None
        if isinstance(columns, int) and columns != model["vocab_size"]:
            raise ValueError(f"model.vocab_size is {model['vocab_size']!r} where the logits have {columns} columns")
    return Manifest(
        **{
            **data,
            "model": ModelFacts(**model),
            "signature": signature,
            "files": {name: FileRecord(**record) for name, record in data["files"].items()},
        }
    )


def _damage(folder: Path, name: str, record: FileRecord, *, check_hash: bool) -> str | None:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} points outside the folder"
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != record.size:
            return f"{name} has {size} bytes instead of {record.size}"
        if check_hash and hash_file(path) != record.sha256:
            return f"{name} has another SHA-256 than recorded"
    except (OSError, ValueError, RuntimeError) as error:  # unreadable, a NUL in the name, links that run in a circle
        return f"{name!r} cannot be read ({error})"
    return None
