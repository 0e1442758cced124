"""Writes an artifact's files into a staged folder: graphs, weights and tokenizer, and how long each step took."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jisu.exporter.contract.artifact import (
    AUDIO_GRAPH,
    HEARING,
    HEARING_WEIGHTS,
    TIMINGS,
    VISION,
    VISION_WEIGHTS,
    FileRecord,
    record_files,
)
from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.contract.signature import Signature
from jisu.exporter.contract.source_place import SourcePlace
from jisu.exporter.packaging.folder_files import Described, write_folder_files

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.exporter.jobs.stages import Stages

_VERSIONED = ("jisu", "torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu")
# How Rust spells an error of the operating system.
_OS_ERROR = re.compile(r"\(os error \d+\)|No space left on device|File too large|Disk quota exceeded")


class Timed(Protocol):
    """The part of a pass's record that is needed here."""

    @property
    def name(self) -> str: ...

    @property
    def seconds(self) -> float: ...


def write_artifact_files(
    folder: Path,
    model: ir.Model,
    source: Described,
    *,
    target: str,
    encoder: ir.Model | None,
    vision: ir.Model | None = None,
    hearing: ir.Model | None = None,
    audio: ir.Model | None = None,
    widens_half: bool,
    max_shard_size: int,
    written: Callable[[int], None] | None = None,
) -> tuple[Signature, dict[str, FileRecord]]:
    """Write graphs, weights, tokenizer and settings; returns the graph's signature and a record of each file.

    Args:
        model: the graph, of a model with an encoder its decoder.
        vision, hearing: make features of an image, or of a recording, for a model that reads them beside texts.
        audio: of a model that hears, what makes sound into what it reads.
        widens_half: also write what a CPU runs in place of a graph that computes in half precision.
        max_shard_size: most bytes of a file of weights.
        written: called after each weight with its bytes.

    Raises:
        InputError: the disk is full, or takes no files.
    """
    from jisu.exporter.graph.cpu_graph import write_cpu_graph
    from jisu.exporter.graph.graph_signature import signature_of
    from jisu.exporter.graph.weights_file import save_encoder, save_graph, save_small_graph

    signature = signature_of(model.graph)
    if audio is not None and encoder is not None:
        signature = replace(signature, heard=signature_of(encoder.graph).inputs)
    with refusing_to_write(folder):
        save_graph(model, folder, max_shard_size=max_shard_size, written=written)
        if encoder is not None:
            save_encoder(encoder, folder, decoder=model, max_shard_size=max_shard_size, written=written)
        for graph, name, weights in ((vision, VISION, VISION_WEIGHTS), (hearing, HEARING, HEARING_WEIGHTS)):
            if graph is not None:
                save_graph(graph, folder, graph=name, weights=weights, max_shard_size=max_shard_size, written=written)
        if audio is not None:
            save_small_graph(audio, folder / AUDIO_GRAPH)
        write_folder_files(folder, source, signature=signature, target=target)
        if widens_half:
            write_cpu_graph(folder)
        return signature, record_files(folder)


def write_timings(folder: Path, stages: Stages, recipe: Sequence[Timed], *, place: SourcePlace) -> None:
    """Write beside the manifest what is true of this run: seconds of each step and each pass, where the source lay."""
    passes = [{"pass": record.name, "seconds": record.seconds} for record in recipe]
    text = json.dumps({**stages.to_dict(), "passes": passes, **place.to_dict()}, indent=2)
    (folder / TIMINGS).write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def refusing_to_write(place: Path) -> Iterator[None]:
    """Turn a full disk or a folder that takes no files into an InputError."""
    try:
        yield
    except JisuError:
        raise
    except Exception as error:
        # The tokenizers package reports a full disk by an Exception of no class of its own (0.22).
        if not isinstance(error, OSError) and not (type(error) is Exception and _OS_ERROR.search(str(error))):
            raise
        received: Any = getattr(error, "strerror", None) or error
        raise InputError(
            f"The artifact cannot be written to {place.parent}",
            received=received,
            allowed="a writable folder with enough space",
            fix="Free disk space, or choose another --out.",
        ) from error


def installed_versions() -> dict[str, str]:
    """Versions of the packages that had a part in the artifact, those that are installed."""
    versions = {}
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
