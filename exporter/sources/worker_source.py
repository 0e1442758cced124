"""A checkpoint for tasks on a cluster: each worker process loads it once, and keeps it from task to task."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class WorkerSource:
    """The arguments of `exporter.sources.load_source`, as words that mean the same on every machine.

    ``paged`` lets the weights of a large model lie in a file of the worker's, below its folder for temporary ones.
    """

    checkpoint: str
    tokenizer: str | None = None
    revision: str | None = None
    allow_pickle: bool = False
    ignore_weights: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    pooling: str | None = None
    paged: bool = False

    def load(self) -> Source:
        return _load(self)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The workers of the connected cluster: the checkpoint that they load, and what a task of theirs needs."""

    source: WorkerSource
    memory_bytes: int


def worker_source(
    checkpoint: object,
    *,
    tokenizer: object = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    adapters: Sequence[str | Path] = (),
    pooling: str | None = None,
    paged: bool = False,
) -> WorkerSource:
    """Name a checkpoint for workers; raises InputError for objects, which they cannot load."""
    if not isinstance(checkpoint, (str, Path)) or not isinstance(tokenizer, (str, Path, type(None))):
        raise InputError(
            "The workers of a cluster cannot load this model, which is an object in memory",
            received=f"a {type(checkpoint).__name__} and a {type(tokenizer).__name__}",
            allowed="a checkpoint's path, hub id or package.module:build, and a tokenizer's path",
            fix="Name the model by such a path, or leave out --ray.",
        )
    return WorkerSource(
        checkpoint=_absolute(checkpoint),
        tokenizer=None if tokenizer is None else _absolute(tokenizer),
        revision=revision,
        allow_pickle=allow_pickle,
        ignore_weights=tuple(ignore_weights),
        adapters=tuple(_absolute(one) for one in adapters),
        pooling=pooling,
        paged=paged,
    )


def task_bytes(source: Source) -> int:
    """What a task that runs a source needs: its weights, as much again while it loads them, and torch itself.

    Of weights that lie in a file it is a few of the largest one.
    """
    if source.paged is not None:
        return 4 * max(4 * weight.numel() for weight in source.module.parameters()) + (2 << 30)
    return 2 * sum(weight.nbytes for weight in source.module.parameters()) + (1 << 30)


def _absolute(name: str | Path) -> str:
    """A path that exists as one from the root: workers have another working folder."""
    return str(Path(name).resolve()) if Path(name).exists() else str(name)


@lru_cache(maxsize=1)
def _load(source: WorkerSource) -> Source:
    from jisu.exporter.sources import load_source

    return load_source(
        source.checkpoint,
        tokenizer=source.tokenizer,
        revision=source.revision,
        allow_pickle=source.allow_pickle,
        ignore_weights=source.ignore_weights,
        adapters=source.adapters,
        pooling=source.pooling,
        scratch=Path(tempfile.gettempdir()) if source.paged else None,
    )
