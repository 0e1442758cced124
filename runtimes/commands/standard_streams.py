"""Standard input, output and error as the verbs need them, whatever the shell has made of them."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Literal, TextIO

from jisu.exporter.contract.errors import InputError

# What a device or a file system says when it takes no more; the user's to mend, not ours.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF}


def prepare_streams() -> None:
    """Let any bytes in and any text out, and stand in for a closed input or error stream.

    Bytes that are not of the input's encoding come in as lone surrogates, for the tokenizer to refuse. Characters that
    the output's encoding does not have are written as escapes: an answer must not break off in the middle.

    Raises:
        InputError: standard output is closed.
    """
    # Python sets a stream that was closed before it started to None.
    if sys.stderr is None:
        sys.stderr = _nothing("w")
    if sys.stdin is None:
        sys.stdin = _nothing("r")
    if sys.stdout is None:
        raise InputError(
            "There is no standard output",
            received="a closed stream",
            allowed="a terminal, a pipe or a file",
            fix=f"Redirect it, to {os.devnull} if nobody reads it.",
        )
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def is_full(error: BaseException) -> bool:
    """Whether what was written to takes no more, or not any more."""
    return isinstance(error, OSError) and error.errno in _FULL


def abandon_output() -> None:
    """Forget what is still buffered, so that the interpreter does not stumble over it at its end."""
    sys.stdout = _nothing("w")


def write_json(record: object, *, indent: int | None = None) -> None:
    """Write one JSON object and a line end; characters that not every encoding has are escaped unless it is UTF-8."""
    is_utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(record, indent=indent, ensure_ascii=not is_utf8) + "\n")


def _nothing(mode: Literal["r", "w"]) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")
