"""What verbs that read whole texts understand: texts as words, as lines of standard input, or in a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.commands.bounded_text import bounded_lines

STDIN = "-"
# Texts that are read before the first of them is run: lines of a file are batched, those of a person are not.
_AHEAD = 256


def add_text_arguments(parser: argparse.ArgumentParser, *, purpose: str) -> None:
    """TEXT, --input and --truncate."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"text to {purpose}; - or none reads lines from standard input"
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help='texts: one a line, or of a .jsonl file the key "text" of each line; - reads standard input',
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut off texts that are too long instead of refusing them"
    )


def text_blocks(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The texts, as many at a time as are read before any of them is run.

    Raises:
        InputError: no text, texts from two places, or a file that cannot be read.
    """
    words, file = arguments.texts, arguments.input
    if file is not None and words:
        raise InputError(
            "Texts come from one place",
            received=f"TEXT and --input {file}",
            allowed="one of them",
            fix="Leave the other out.",
        )
    ahead = _AHEAD
    if file is not None:
        texts = file_texts(file)
    elif words not in ([], [STDIN]):
        texts = iter(words)
    else:
        interactive = sys.stdin.isatty()
        if interactive and not words:
            raise InputError(
                "There is no text",
                received="neither TEXT, nor --input, nor lines on standard input",
                allowed="one text or more",
                fix="Write each text in quotes after the artifact, or - to type them.",
            )
        texts, ahead = _lines(sys.stdin), 1 if interactive else _AHEAD
    while block := list(islice(texts, ahead)):
        yield block


def file_texts(path: Path, *, key: str = "text") -> Iterator[str]:
    """The texts of a file: its lines that have something in them, or of a ``.jsonl`` file what stands under a key.

    Args:
        path: of a file; - is standard input.

    Raises:
        InputError: it cannot be read, or a line is no object with such a text.
    """
    if str(path) == STDIN:
        yield from _lines(sys.stdin)
        return
    try:
        with path.open(encoding="utf-8-sig") as lines:
            if path.suffix.lower() != ".jsonl":
                yield from _lines(lines)
                return
            for number, line in enumerate(bounded_lines(lines), start=1):
                if line.strip():
                    yield _json_text(line, key, f"line {number} of {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The file {path} cannot be read",
            received=error,
            allowed="a text file in UTF-8",
            fix="Check the path, or convert the file.",
        ) from error


def _json_text(line: str, key: str, where: str) -> str:
    try:
        text = json.loads(line)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise InputError(
            f"There is no text in {where}",
            received=shown(line.strip()),
            allowed=f'an object of JSON with a text under "{key}"',
            fix="Correct the line.",
        )
    return text


def _lines(lines: TextIO) -> Iterator[str]:
    """Lines that have something in them."""
    for line in bounded_lines(lines):
        if line.strip():
            yield line.rstrip("\r\n")
