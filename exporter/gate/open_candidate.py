"""Opens a written artifact as its users will: the one place where the exporter calls the runtimes.

The arrow points from runtimes to exporter; verifying what users will run is the step that looks back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.contract.classifier_backend import ClassifierBackend

WITH_VNNI = "CPUs that add int8 products in 32 bits (VNNI, AMX, Arm)"


def open_candidate(artifact: Artifact, backend: str = "ort-cpu", *, threads: int | None = None) -> Backend:
    """The candidate's graph on a backend; close it after use.

    Raises:
        InputError: it cannot be opened.
    """
    from jisu.runtimes.backends.backend_options import BackendOptions
    from jisu.runtimes.backends.registry import open_backend

    return open_backend(backend, artifact, BackendOptions(threads=threads))


def open_candidate_classifier(artifact: Artifact, backend: str = "ort-cpu") -> ClassifierBackend:
    """The same of a classifier."""
    from jisu.runtimes.backends.registry import open_classifier

    return open_classifier(backend, artifact)


def refuse_unprovable() -> None:
    """Raise InputError where this CPU cannot run what is only right with VNNI, and so cannot verify it either."""
    from jisu.runtimes.machine.int8_sums import int8_sums_overflow

    if int8_sums_overflow():
        raise InputError(
            "An artifact for CPUs with VNNI cannot be verified on this one, whose int8 matmuls overflow",
            received="--assume-vnni",
            allowed=f"it on {WITH_VNNI}",
            fix="Leave it out: the artifact is then right on every CPU.",
        )
