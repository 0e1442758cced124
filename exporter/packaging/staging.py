"""How an artifact comes to be on the disk: written under a temporary name beside its place, renamed when accepted.

Standard library only. An interrupted or failed export leaves nothing that looks like an artifact.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jisu.exporter.contract.artifact import check_outside_artifacts, unrecorded_files
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.folder_lock import lock_folder
from jisu.exporter.jobs.output_path import check_name, check_parent

STAGING_SUFFIX = ".partial"


def check_place(out: Path, *, checkpoint: str | Path | None, overwrite: bool = False) -> None:
    """Raise InputError when an artifact cannot come to lie at ``out``; nothing is written to find out.

    An export never writes into the checkpoint it reads; None is one that lies in no folder.

    Args:
        overwrite: whether an earlier artifact may lie there.
    """
    check_name(out, temporary=f".{{name}}.12345678{STAGING_SUFFIX}")
    refuse_existing(out, overwrite=overwrite)
    # An earlier artifact at the place itself is no reason; one around it is.
    check_outside_artifacts(out.absolute().parent if overwrite else out, option="--out")
    source = None if checkpoint is None else Path(checkpoint)
    if source is not None and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"The output folder {out} lies inside the checkpoint",
            received=out,
            allowed="a folder outside of it",
            fix="Choose another --out.",
        )
    check_parent(out)


def refuse_existing(out: Path, *, overwrite: bool = False) -> None:
    """Raise InputError when ``out`` exists, with ``overwrite`` only when it is more than an artifact.

    A folder without a manifest is not one of ours, and one with other files beside those that the manifest records
    holds something that nobody else may have.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise InputError(
            f"The output folder {out} already exists",
            received="a path that exists",
            allowed="a path that does not exist yet",
            fix="Choose another --out, remove the folder first, or replace an earlier artifact with --overwrite.",
        )
    received = _what_is_not_ours(out)
    if received is not None:
        raise InputError(
            f"{out} cannot be overwritten",
            received=received,
            allowed="a folder that `jisu export` wrote, with nothing else in it",
            fix="Choose another --out or remove it yourself.",
        )


def _what_is_not_ours(out: Path) -> str | None:
    """What a path has or is besides an artifact, None where it is nothing else."""
    if out.is_symlink():
        return "a symbolic link"
    if not out.is_dir():
        return "a file"
    try:
        other = unrecorded_files(out)
    except InputError as error:
        return str(error)
    return f"files that no export wrote: {', '.join(other[:5])}" if other else None


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
        folder, lock = _made_and_locked(out)
    except OSError as error:
        _remove_empty(made)
        raise InputError(
            f"No output folder can be created in {out.parent}",
            received=error.strerror or error,
            allowed="a writable folder",
            fix="Choose another --out.",
        ) from error
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
    lock can be had is nobody's, or of an export that is about to lock it and makes another one when it is gone. Where
    the system knows no such locks nothing is removed.
    """
    pattern = f".{glob.escape(out.name)}.*{STAGING_SUFFIX}"
    removed = []
    for folder in sorted(out.parent.glob(pattern)):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = lock_folder(folder)
        if lock is None:
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
        if not folder.exists():
            removed.append(folder)
    return removed


def _made_and_locked(out: Path) -> tuple[Path, int | None]:
    """A new temporary folder beside ``out`` and its lock; None for the lock where there are none."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=STAGING_SUFFIX, dir=out.parent))
        lock = lock_folder(folder)
        # Another export may have taken it for a killed one's before it was locked, and holds the lock or removed it.
        if lock is not None and folder.exists():
            return folder, lock
        if lock is None and folder.exists() and not _held_by_another(folder):
            return folder, None
        if lock is not None:
            os.close(lock)


def _held_by_another(folder: Path) -> bool:
    """Whether there are locks here, and somebody has this folder's; answers when they have let it go."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # until it is removed, which takes a moment
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return True


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, innermost first, as far as they are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def publish(staged: Path, out: Path, *, overwrite: bool = False) -> None:
    """Flush the staged files to the disk and give the folder its final name in one step.

    Args:
        overwrite: whether to replace an earlier artifact of that name.
    """
    for path in (*staged.rglob("*"), staged):
        _flush(path)
    refuse_existing(out, overwrite=overwrite)
    if out.exists():
        replace_folder(staged, out)
    else:
        staged.rename(out)
    with contextlib.suppress(OSError):  # some file systems flush no folders; the artifact is whole either way
        _flush(out.parent)


def replace_folder(staged: Path, place: Path) -> None:
    """Give a staged folder a name that an earlier one of ours has: whenever this is killed, one is whole."""
    with staging_folder(place) as aside:
        place.rename(aside / place.name)
        staged.rename(place)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
