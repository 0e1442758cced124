"""Whether something can come to lie at a path, found out before the work for it begins.

Standard library only. Messages say "folder" or "file" as the caller calls what it wants to write.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jisu.exporter.contract.errors import InputError

_LONGEST_NAME = 255  # bytes, on every common file system


def check_name(out: Path, *, what: str = "output folder", temporary: str = "{name}.partial") -> None:
    """Raise InputError when a path cannot be anybody's name.

    Args:
        out: the path.
        what: what is to lie there, for the message.
        temporary: the name that is used while it is written, with ``{name}`` for the last part of the path.
    """
    beside = temporary.format(name=out.name)
    try:
        fits = all(len(part.encode("utf-8")) <= _LONGEST_NAME for part in (*out.parts, beside))
        os.lstat(out.parent)  # a whole path may be too long for the system as well
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # said in better words by who looks at the parents
    except (OSError, ValueError):  # too long, not UTF-8
        fits = False
    if not fits or "\0" in str(out):
        raise InputError(
            f"The name of the {what} cannot be used",
            received=ascii(str(out)[:80]),
            allowed=f"UTF-8 without NUL, parts of at most {_LONGEST_NAME - len(beside) + len(out.name)} bytes",
            fix="Choose another --out.",
        )


def existing_parent(out: Path) -> Path:
    """The nearest folder above a path that exists, or a file that stands in its place."""
    return next(parent for parent in out.absolute().parents if parent.exists())


def scratch_folder(out: Path) -> Path | None:
    """Where files that nobody keeps may lie while something is made at a path, or read from it; None for nowhere."""
    place = existing_parent(out)
    return place if place.is_dir() and os.access(place, os.W_OK | os.X_OK) else None


def check_parent(out: Path, *, what: str = "output folder") -> None:
    """Raise InputError when the nearest folder above a path takes no files; nothing is written to find out."""
    place = existing_parent(out)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"The {what} cannot be created in {place}",
            received="a file" if not place.is_dir() else "a folder that cannot be written",
            allowed="a writable folder",
            fix="Choose another --out.",
        )


def try_to_write(out: Path, *, what: str, option: str) -> None:
    """Make and remove a file beside a path; where that fails, the result of hours could not be written either.

    Folders that had to be made for it are removed again.

    Raises:
        InputError: no file can be written there.
    """
    missing = [parent for parent in out.absolute().parents if not parent.exists()]
    probe = out.with_name(f"{out.name}.partial")
    existed = probe.exists()
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        with probe.open("ab"):
            pass
        if not existed:
            probe.unlink()
    except OSError as error:
        raise cannot_write(out, error, what=what, option=option) from error
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()


def cannot_write(out: Path, error: OSError, *, what: str, option: str) -> InputError:
    """The error for what the system says when something cannot be written."""
    return InputError(
        f"The {what} cannot be written to {out}",
        received=error.strerror or error,
        allowed="a writable folder with enough space",
        fix=f"Free disk space, or choose another {option}.",
    )
