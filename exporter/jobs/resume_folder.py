"""What an export has finished, kept beside its output for the same export to take up when it was ended before its time.

Entries are arrays by name, each in a file that appears as a whole or not at all. The key says what they were made from:
with another one nothing is taken up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.jobs.folder_lock import lock_folder
from jisu.exporter.jobs.output_path import cannot_write

KEY_FILE = "key.json"
_SUFFIX = ".resume"
_PARTIAL = ".partial"

Arrays = dict[str, npt.NDArray[Any]]


class ResumeFolder:
    """The folder; made by `open_resume_folder`."""

    def __init__(self, folder: Path, *, differs: tuple[str, ...] = (), lock: int | None = None) -> None:
        """
        Args:
            differs: parts of the key in which what lay there before was another export's.
            lock: descriptor that keeps other exports out; closed by `close`.
        """
        self.folder, self.differs = folder, differs
        self._lock = lock

    @property
    def names(self) -> list[str]:
        """Of the entries that are finished."""
        return sorted(path.stem for path in self.folder.glob("*.npz"))

    def load(self, name: str) -> Arrays | None:
        """The arrays of an entry; None where it is not there, or damaged."""
        try:
            with np.load(self._file(name), allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}  # reading checks the checksums
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, TokenError):
            self.drop(name)
            return None

    def save(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep arrays under a name, in the place of earlier ones.

        Raises:
            InputError: the disk is full.
        """
        partial = self._file(name).with_suffix(_PARTIAL)
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())  # a name must not come to stand for contents that a power cut has lost
            partial.replace(self._file(name))
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise cannot_write(self.folder, error, what="finished part of the export", option="--out") from error
            raise

    def drop(self, name: str) -> None:
        """Forget an entry that is needed no more."""
        self._file(name).unlink(missing_ok=True)

    def place(self, name: str) -> Path:
        """A folder inside, for what keeps its own books."""
        return self.folder / name

    def discard(self) -> None:
        """Remove everything: the export has come to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let other exports have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def open_resume_folder(out: Path, key: Mapping[str, Any]) -> ResumeFolder | None:
    """The folder of the export to ``out``, with what an earlier one of the same key has left there.

    Args:
        key: JSON-able; what finished work depends on, by part.

    Returns:
        None where another process is exporting to the same place, or nothing could keep it from doing so.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    folder = out.absolute().parent / f".{out.name}{_SUFFIX}"
    try:
        return _opened(folder, key)
    except OSError as error:
        raise cannot_write(folder.parent, error, what="record of finished parts", option="--out") from error


def _opened(folder: Path, key: Mapping[str, Any]) -> ResumeFolder | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder)
    if lock is None:
        return None
    stated = json.loads(json.dumps(key))
    earlier = _read_key(folder)
    differs = () if earlier is None else tuple(part for part in stated if stated[part] != earlier.get(part))
    if earlier is None or differs:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        (folder / KEY_FILE).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    return ResumeFolder(folder, differs=differs, lock=lock)


def _read_key(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        key = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
        if isinstance(key, dict):
            return key
    return None
