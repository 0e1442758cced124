"""Takes the places of the machine that measured out of a report: it is published, commented and compared elsewhere."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

_PART = r"[^\\/\s\"'`,;:()<>|]+"
# The folders of an absolute path, before its last name; a web address has its slashes behind a colon.
_FOLDERS = re.compile(rf"(?<![\w.:/<~])(?:~?/|~\\|[A-Za-z]:[\\/])(?:{_PART}[\\/])+(?={_PART})")


def without_places(value: Any) -> Any:
    """A report, or any part of it, whose texts name files and folders by their own names alone.

    Relative paths stay: they say where something is in a project, and nothing of the machine.
    """
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    return [without_places(item) for item in value] if isinstance(value, (list, tuple)) else value


def own_name(word: str) -> str:
    """A word of a command line; an absolute path, which may have blanks, by its own name."""
    path = PurePath(word)
    return path.name if path.is_absolute() or word.startswith("~") else word
