"""A line typed at a prompt, and what was typed before the prompt was there, while an answer was being written."""

from __future__ import annotations

import contextlib
import select
import sys


def read_line(prompt: str) -> str:
    """Show the prompt and return the line without its end; raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C.

    ``input`` with its line editing puts the terminal into another mode, which loses a Ctrl-D that was typed before.
    """
    if not _has_input():
        return input(prompt)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def edit_lines() -> None:
    """Give `read_line` a history and keys to edit, where Python was built with them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (its import changes what input() does)


def _has_input() -> bool:
    """Whether a whole line or an end is waiting; the mode of a terminal between two prompts counts by lines."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # not a file, or a system that cannot ask it
        return False
