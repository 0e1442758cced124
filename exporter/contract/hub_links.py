"""Tells links of a hub's cache from those that lead elsewhere.

``huggingface_hub`` keeps each file once, in ``<repository>/blobs/<hash>``, and a revision as links to those files in
``<repository>/snapshots/<revision>/``; a folder of the user's own may hold links into such a cache, too. Standard
library only.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

_BLOBS, _SNAPSHOTS = "blobs", "snapshots"
# How a cache names the folder of a repository: its kind, its owner and its name.
_REPOSITORY = ("models--", "datasets--", "spaces--")


def names_a_place_inside(name: str) -> bool:
    """Whether a relative name, in the spelling of any system, cannot leave the folder that it is relative to."""
    spellings = PurePosixPath(name), PureWindowsPath(name)
    return not any(one.is_absolute() or one.drive or ".." in one.parts for one in spellings)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether the file at ``path`` is in ``folder``, or behind links of a hub's cache that the folder is made of.

    Raises:
        OSError, RuntimeError: links run in a circle, or cannot be read.
    """
    target = path.resolve()
    return target.is_relative_to(folder.resolve()) or (path.is_symlink() and _is_blob(target, folder))


def _is_blob(target: Path, folder: Path) -> bool:
    """Whether a file lies among the blobs of the folder's own repository, or of one in a hub's cache."""
    blobs = target.parent
    if blobs.name != _BLOBS:
        return False
    if blobs.parent.name.startswith(_REPOSITORY):
        return True
    real = folder.resolve()
    return any(
        place.parent.name == _SNAPSHOTS and place.parent.parent == blobs.parent for place in (real, *real.parents)
    )
