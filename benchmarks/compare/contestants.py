"""Who is compared: artifacts on backends, and what is known of each before it runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import MANIFEST, TIMINGS, TOKENIZER, Artifact, read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.registry import BACKENDS


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One row to be.

    ``command`` is its worker's. ``facts`` go into the report as they are. ``artifact`` and ``backend`` are None for a
    peer. ``problem`` says why it cannot even be started.
    """

    name: str
    command: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None
    backend: str | None = None
    problem: str | None = None


def artifact_contestants(
    folders: Sequence[Path], backends: Sequence[str], *, threads: int, source: str | None
) -> list[Contestant]:
    """Every artifact on every backend, those that cannot be read or were altered included, with the reason.

    A backend that runs the source instead of the artifact gives one contestant for each source, not for each artifact.

    Raises:
        InputError: an unknown backend, a folder that is named twice, or models that are for different things.
    """
    for name in backends:
        if name not in BACKENDS:
            raise InputError(
                "There is no such backend",
                received=name,
                allowed=", ".join(sorted(BACKENDS)),
                fix="Correct --backends.",
            )
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError(
            "An artifact is named twice",
            received=", ".join(map(str, folders)),
            allowed="each folder once",
            fix="Leave the repeated one out.",
        )
    labels = _labels(folders)
    contestants: list[Contestant] = []
    sources: set[tuple[str, str]] = set()
    model: Artifact | None = None
    for folder in folders:
        artifact, problem = _opened(folder)
        if artifact is not None:
            if model is not None:
                _check_kinds(model, artifact)
                problem = _another_model(model, artifact)
            model = model or artifact
        for backend in backends:
            reads_source = BACKENDS[backend].reads_source
            name = labels[folder]
            if reads_source and artifact is not None:
                key = (backend, source_key(artifact))
                if key in sources:
                    continue
                name = "source" if not any(known == backend for known, _ in sources) else f"source of {name}"
                sources.add(key)
            contestants.append(
                Contestant(
                    name=f"{name} ({backend})",
                    command=_command(folder, backend, threads, source if reads_source else None),
                    facts=_facts(folder, artifact, backend, reads_source=reads_source),
                    artifact=artifact,
                    backend=backend,
                    problem=problem,
                )
            )
    return contestants


def source_key(artifact: Artifact) -> str:
    """What tells one source from another: the hashes of its files, or its name where it has none."""
    record = artifact.manifest.source
    hashes = sorted(str(item.get("sha256")) for item in record.get("files", {}).values())
    return ",".join(hashes) or str(record.get("name"))


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """The folders' own names; where two have the same, with as many of the folders above as tell them apart."""
    parts = {folder: folder.resolve().parts for folder in folders}

    def label(folder: Path) -> str:
        for count in range(1, len(parts[folder]) + 1):
            tail = parts[folder][-count:]
            if sum(other[-count:] == tail for other in parts.values()) == 1:
                break
        return "/".join(parts[folder][-count:])

    return {folder: label(folder) for folder in folders}


def _opened(folder: Path) -> tuple[Artifact | None, str | None]:
    try:
        artifact = read_artifact(folder, check_hashes=True)  # or it would be a row with a quality of nobody's
    except InputError as error:
        return None, str(error)
    return artifact, None


def _check_kinds(first: Artifact, other: Artifact) -> None:
    """Raise InputError for models whose speeds are of different things."""
    tasks = [artifact.manifest.model_kind for artifact in (first, other)]
    if tasks[0] != tasks[1]:
        raise InputError(
            "Models of different kinds cannot be compared",
            received="; ".join(f"{artifact.folder} for {artifact.manifest.model_kind}" for artifact in (first, other)),
            allowed="artifacts of one kind of model",
            fix="Compare each kind by itself.",
        )


def _another_model(first: Artifact, other: Artifact) -> str | None:
    """Why the two cannot be fed the same token ids, None when they can."""
    facts = {"vocabulary": "vocab_size", "length": "max_positions", "length of sources": "max_source_positions"}
    for name, value in facts.items():
        a, b = (getattr(artifact.manifest.model, value) for artifact in (first, other))
        if a != b:
            return f"Its {name} is {b} and that of {first.folder} {a}: it cannot be fed the same tokens."
    if first.manifest.model.labels != other.manifest.model.labels:
        return f"Its labels are not those of {first.folder}: it cannot be compared with it."
    files = [artifact.manifest.files.get(TOKENIZER) for artifact in (first, other)]
    if all(files) and files[0] != files[1]:
        return f"Its tokenizer is not that of {first.folder}: it cannot be fed the same tokens."
    return None


def _command(folder: Path, backend: str, threads: int, source: str | None) -> tuple[str, ...]:
    program = (sys.executable, "-m", "jisu.benchmarks.peers.run_jisu", str(folder), backend, str(threads))
    return program if source is None else (*program, source)


def _facts(folder: Path, artifact: Artifact | None, backend: str, *, reads_source: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"engine": "jisu", "path": folder.name, "backend": backend, "size_bytes": None}
    if artifact is None:
        return facts
    manifest = artifact.manifest
    facts["manifest_sha256"] = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    if reads_source:
        files = manifest.source.get("files", {}).values()
        size = sum(record.get("size", 0) for record in files) or None
        return {**facts, "precision": "source", "size_bytes": size, "export_seconds": None}
    return {
        **facts,
        "precision": manifest.precision,
        "target": manifest.target,
        "size_bytes": artifact.size + (folder / MANIFEST).stat().st_size,
        "export_seconds": _export_seconds(folder),
        "gate": manifest.gate,
        "formats": _formats(manifest.quantization),
        "sensitivity": _sensitivity(manifest.quantization),
    }


def _formats(quantization: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each number format and how many layers have it."""
    formats = quantization.get("formats", [])
    return [{"format": item.get("format"), "layers": item.get("weights")} for item in formats if isinstance(item, dict)]


def _sensitivity(quantization: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Of mixed precision: each group's format, and what each format costs it in nats and bytes; None of others."""
    mixed = quantization.get("mix")
    if not isinstance(mixed, dict):
        return None
    return [
        {
            "layers": ", ".join(unit["names"]),
            "format": unit["format"],
            "kl": max(0.0, unit["kl"][unit["format"]]),
            "bytes": unit["bytes"][unit["format"]],
            "others": [
                {"format": label, "kl": max(0.0, kl), "bytes": unit["bytes"][label]}
                for label, kl in unit["kl"].items()
                if label != unit["format"]
            ],
        }
        for unit in mixed.get("units", ())
    ]


def _export_seconds(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / TIMINGS).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
