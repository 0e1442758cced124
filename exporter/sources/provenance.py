"""Records where a model came from, so that an artifact can always be traced back to its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import FileRecord, hash_file

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "gguf")


def record_origin(
    origin: Mapping[str, Any], *, licence: str | None, dtypes: Iterable[str], files: Iterable[Path]
) -> dict[str, Any]:
    """Complete ``origin`` (kind, name, revision) with licence, stored dtypes, file hashes and package versions."""
    return {
        **origin,
        "licence": licence,
        "dtype": ", ".join(sorted(dtypes)),
        "files": file_records(files),
        "versions": {package: version for package in _PACKAGES if (version := _version(package)) is not None},
    }


def file_records(files: Iterable[Path]) -> dict[str, Any]:
    """Size and SHA-256 of each file by its name."""
    return {path.name: asdict(FileRecord(size=path.stat().st_size, sha256=hash_file(path))) for path in sorted(files)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
