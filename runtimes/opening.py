"""Opens an artifact on a backend: `load`, and the same with the backend's options as one object."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jisu.exporter.contract.artifact import read_artifact
from jisu.runtimes.backends.backend_options import BackendOptions, Source
from jisu.runtimes.backends.registry import open_artifact
from jisu.runtimes.engine import Engine
from jisu.runtimes.machine.verified_files import verify_once

DEFAULT_BACKEND = "ort-cpu"


def load(
    folder: str | Path,
    backend: str = DEFAULT_BACKEND,
    *,
    threads: int | None = None,
    verify_hashes: bool = True,
    check_hashes: bool = False,
    source: Source = None,
    allow_cpu_nodes: bool = False,
    plan: str | Path | None = None,
    capacity: int | None = None,
) -> Engine:
    """Open an artifact.

    Args:
        folder: what ``jisu export`` wrote.
        backend: a name in `runtimes.backends.registry.BACKENDS`; no other one is taken in its place.
        verify_hashes: compare the SHA-256 of every file with the recorded one, once on a machine: that it was done is
            remembered in the user's cache folder until a file changes. False compares their sizes alone.
        check_hashes: compare them now, whatever is remembered.

    The other arguments are the options of the backend, see `runtimes.backends.backend_options.BackendOptions`.

    Raises:
        InputError: no artifact, a damaged one, an unknown backend, or one that cannot run this artifact.
        MissingDependencyError: the backend's package is not installed.
    """
    options = BackendOptions(
        threads=threads, source=source, allow_cpu_nodes=allow_cpu_nodes, plan=plan, capacity=capacity
    )
    return open_engine(folder, backend, options, verify_hashes=verify_hashes, check_hashes=check_hashes)


def open_engine(
    folder: str | Path,
    backend: str,
    options: BackendOptions,
    *,
    verify_hashes: bool = True,
    check_hashes: bool = False,
) -> Engine:
    """The same as `load`, with the options of the backend as one object."""
    artifact = read_artifact(folder, check_hashes=check_hashes)
    if verify_hashes and not check_hashes:
        verify_once(artifact)
    reopen = None
    if options.can_be_pickled:
        reopen = partial(
            open_engine, backend=backend, options=options.with_absolute_paths(), verify_hashes=verify_hashes
        )
    return Engine(artifact, open_artifact(backend, artifact, options), reopen=reopen)
