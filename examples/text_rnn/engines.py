"""Opens what `export` wrote, on any backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.text_rnn.trained_model import TrainedModel
    from jisu import Engine


def open_engine(folder: Path, backend: str, model: TrainedModel, *, threads: int | None = None) -> Engine:
    """Open an engine; the backend ``torch`` runs the trained model itself.

    Raises:
        InputError: no artifact, or a backend that cannot run it.
    """
    from jisu import load

    return load(folder, backend=backend, threads=threads, source=model.module if backend == "torch" else None)
