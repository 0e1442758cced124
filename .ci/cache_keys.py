"""Names what action.yml keeps between runs: packages, downloaded checkpoints and accepted artifacts.

    python .ci/cache_keys.py ACTION CHECKPOINT PRECISIONS OPTIONS

Prints ``name=value`` lines for $GITHUB_OUTPUT. Runs before jisu is installed: standard library only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

# What of the action's own checkout decides what is installed and what an export makes.
_CODE = ("jisu", "exporter", "runtimes", "calibration", "benchmarks")
_PINS = ("pyproject.toml", "constraints.txt")


def main() -> None:
    action, checkpoint, precisions, options = sys.argv[1:]
    system = f"{platform.system()}-{platform.machine()}-{platform.python_version()}"
    code = digest_of_files(_code_files(Path(action)), Path(action))
    content = _content(checkpoint)
    local = Path(checkpoint).exists()
    values = {
        "environment-key": f"jisu-environment-{system}-{code}",
        "checkpoint-key": f"jisu-checkpoint-{digest_of_words(checkpoint, options)}",
        "artifacts-key": f"jisu-artifacts-{system}-{code}-{digest_of_words(content, precisions, options)}",
        "downloads": "true" if not local and ":" not in checkpoint else "false",
    }
    for name, value in values.items():
        sys.stdout.write(f"{name}={value}\n")


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """One digest of names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:32]


def digest_of_words(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _code_files(action: Path) -> list[Path]:
    files = [path for folder in _CODE for path in (action / folder).rglob("*") if path.is_file()]
    kept = [path for path in files if "__pycache__" not in path.parts and "results" not in path.parts]
    return [*kept, *(action / name for name in _PINS)]


def _content(checkpoint: str) -> str:
    """What the checkpoint is: its bytes, or the commit where it is a name that may mean something else tomorrow."""
    path = Path(checkpoint)
    if path.is_file():
        return digest_of_files([path], path.parent)
    if path.is_dir():
        return digest_of_files([item for item in path.rglob("*") if item.is_file()], path)
    return f"{checkpoint} {os.environ.get('GITHUB_SHA', '')} {os.environ.get('GITHUB_RUN_ID', '')}"


if __name__ == "__main__":
    main()
