"""Text from a file or a stream that may have no end: a device, or a pipe that somebody else fills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown

# Characters: far more than any model reads, and few enough to be held.
LONGEST = 16 << 20


def bounded_lines(lines: TextIO) -> Iterator[str]:
    """Lines with their ends; raises InputError for one of more than LONGEST characters."""
    number = 0
    while line := lines.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise InputError(
                f"Line {number} of the input is too long",
                received=f"more than {LONGEST:,} characters, {shown(line)}",
                allowed="a text file with one text a line",
                fix="Check what the file is, or put each text on a line of its own.",
            )
        yield line


def bounded_text(stream: TextIO, *, name: str) -> str:
    """All that a stream has; raises InputError where that is more than LONGEST characters.

    Args:
        name: of the stream, for the error.
    """
    text = stream.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise InputError(
            f"The text in {name} is too long",
            received=f"more than {LONGEST:,} characters, {shown(text)}",
            allowed="a text file",
            fix="Check what the file is, or give a part of it.",
        )
    return text
