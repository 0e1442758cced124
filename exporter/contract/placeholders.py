"""Names what stands in the place of a file that was never fetched: a pointer of git-lfs, or a link to nowhere.

Standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

from jisu.exporter.contract.errors import InputError

# A pointer is a few lines; the specification of git-lfs asks for less than 1024 bytes.
_LONGEST = 1024
_POINTERS = {
    "git-lfs": (re.compile(rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/"), "git lfs pull"),
    "git-xet": (re.compile(rb"# xet version "), "git xet checkout"),
    "git-annex": (re.compile(rb"/?(?:\.git/)?annex/objects/"), "git annex get"),
}
_SIZE = re.compile(rb"^(?:size|filesize =) *(\d+)", re.MULTILINE)


def refuse_placeholder(path: Path) -> None:
    """Raise InputError when only a pointer or a dangling link lies at ``path``; a file or nothing at all passes."""
    kind = placeholder_at(path)
    if kind is None:
        return
    pointer = _pointer(path)
    command = f"Run `{pointer[1]}` in the repository, or download" if pointer else "Download"
    raise InputError(
        f"{path} is {kind}",
        received="a stand-in for the file",
        allowed="the file itself",
        fix=f"{command} the file.",
    )


def refuse_placeholders(place: Path) -> None:
    """The same for a file, or for all files that lie in a folder."""
    for path in sorted(place.iterdir()) if place.is_dir() else [place]:
        refuse_placeholder(path)


def placeholder_at(path: Path) -> str | None:
    """What stands at ``path`` for a file that is not there, in words; None when nothing does."""
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, where nothing is"
    pointer = _pointer(path)
    if pointer is None:
        return None
    tool, _, size = pointer
    return f"a {tool} pointer of {path.stat().st_size} bytes{f', which stands for {size} bytes' if size else ''}"


def _pointer(path: Path) -> tuple[str, str, str] | None:
    """The tool, what fetches the file, and its size when it is said; None for what is no pointer."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return None
        text = path.read_bytes()
    except OSError:
        return None  # whoever reads the file says why it cannot be read
    for tool, (pattern, command) in _POINTERS.items():
        if pattern.match(text):
            size = _SIZE.search(text)
            return tool, command, f"{int(size[1]):,}" if size else ""
    return None
