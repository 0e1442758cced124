"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from jisu import InputError


@contextlib.contextmanager
def write_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder to write into, and rename it to ``out`` when the block ends well.

    Raises:
        InputError: ``out`` exists or nothing can be written beside it.
    """
    check_new(out)
    partial = out.with_name(f"{out.name}.partial")
    if partial.exists():
        raise InputError(
            f"{partial} is in the way",
            received="what a run that was killed left there, or another run at work",
            allowed="a path that is free",
            fix="Remove it when no other run writes it.",
        )
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"The folder {out} cannot be written",
            received=error.strerror or error,
            allowed="a writable place",
            fix="Choose another --out.",
        ) from error
    try:
        yield partial
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_new(out: Path) -> None:
    """Raise InputError when something lies at ``out`` already."""
    if out.exists() or out.is_symlink():
        raise InputError(
            f"{out} exists already",
            received="a file" if out.is_file() else "a folder",
            allowed="a path that is free",
            fix="Choose another --out, or remove it first.",
        )
