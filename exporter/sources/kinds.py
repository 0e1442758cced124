"""Which kind of checkpoint the user means. Looks at the path and at a file's first four bytes, opens nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder

SourceKind = Literal["hf-folder", "hf-hub", "gguf", "factory"]

GGUF_MAGIC = b"GGUF"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A module's dotted path and a name in it. A drive letter of Windows is followed by a slash, which no name has.
_FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_OTHER_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
_ALLOWED = "a Hugging Face folder, a GGUF file, a hub id such as org/name, or a factory such as package.module:build"


def kind_of(checkpoint: str | Path) -> SourceKind:
    """Tell the kind of a checkpoint; an existing path always wins over a hub id or factory of the same spelling.

    Raises:
        InputError: nothing exists at the path and it is not spelled like a hub id, or the file is no GGUF file.
    """
    path = Path(checkpoint)
    refuse_placeholder(path)
    if path.is_dir():
        return "gguf" if _holds_only_gguf(path) else "hf-folder"
    if path.is_file():
        if path.suffix == ".gguf" or _starts_with_magic(path):
            return "gguf"
        raise InputError(
            f"The checkpoint {path} is a file of an unknown kind",
            received=f"a file that neither ends in .gguf nor starts with {GGUF_MAGIC.decode()}",
            allowed=_ALLOWED,
            fix="Give the folder that holds config.json and the weights.",
        )
    if isinstance(checkpoint, str) and path.suffix != ".gguf" and _HUB_ID.fullmatch(checkpoint):
        return "hf-hub"
    if isinstance(checkpoint, str) and _FACTORY.fullmatch(checkpoint):
        return "factory"
    raise InputError(
        f"The checkpoint {str(checkpoint)!r} does not exist",
        received="a path with nothing there" if str(checkpoint) else "an empty name",
        allowed=_ALLOWED,
        fix="Check the spelling.",
    )


def folder_of(checkpoint: Any) -> Path | None:
    """The folder that is the checkpoint, in which nothing may be written; of GGUF files only the files are it."""
    if not isinstance(checkpoint, (str, Path)) or not Path(checkpoint).is_dir() or _holds_only_gguf(Path(checkpoint)):
        return None
    return Path(checkpoint)


def _holds_only_gguf(folder: Path) -> bool:
    """Whether a folder's weights are GGUF files: there are some, and none of the formats that go before them."""
    try:
        suffixes = {path.suffix.lower() for path in folder.iterdir()}
    except OSError:
        return False  # the reader of folders says what is wrong
    return ".gguf" in suffixes and not suffixes & _OTHER_WEIGHTS


def _starts_with_magic(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError as error:
        raise InputError(
            f"The checkpoint {path} cannot be read",
            received=error.strerror or error,
            allowed=_ALLOWED,
            fix="Check the file's permissions.",
        ) from error
