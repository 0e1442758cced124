"""A disk of its own that fills: for the jobs that are watched while there is no room left for what they write."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jisu.exporter.contract.errors import InputError

_FILLER = "filler"
_PIECE = 8 << 20
# Bytes that may be left: about what a tiny artifact has.
_LEFT, _PAGE = 1 << 20, 1 << 12


@contextmanager
def small_disk(folder: Path, *, size: int) -> Iterator[Path]:
    """A file system of so many bytes in memory, at an empty folder, until the end.

    Raises:
        InputError: this user may not mount one.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "jisu-small-disk", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        refused = done.stderr.strip() if done.returncode else None
    except OSError as error:
        refused = str(error)
    if refused is not None:
        raise InputError(
            "There is no disk that could be filled",
            received=refused,
            allowed="a user who may mount a file system in memory, on Linux",
            fix="Run it as root, or without --fills.",
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


@contextmanager
def filled(place: Path, chance: random.Random) -> Iterator[None]:
    """Take the room that is left on the disk of a folder, all of it or but for a little, until the end."""
    filler = place.parent / _FILLER
    with filler.open("wb") as stream:
        written = 0
        for piece in (_PIECE, _PAGE):
            try:
                while True:
                    os.posix_fallocate(stream.fileno(), written, piece)
                    written += piece
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        os.ftruncate(
            stream.fileno(), max(0, written - chance.choice((0, chance.randrange(_PAGE), chance.randrange(_LEFT))))
        )
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            filler.unlink()
