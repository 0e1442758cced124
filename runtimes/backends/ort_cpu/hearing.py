"""What an artifact that reads recordings beside texts hears with, on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import AUDIO_GRAPH, HEARING, Artifact
from jisu.exporter.contract.signature import AUDIO_FEATURES
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.ort_cpu.vision import VisionGraph
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.row_lengths import closed


class HearingGraphs:
    """Turns samples into features, and the features of one recording into rows for the decoder.

    Args:
        width: of a row, as the decoder reads it.

    Raises:
        InputError: a graph is damaged, or gives rows of another width.
    """

    def __init__(self, artifact: Artifact, *, threads: int | None, width: int, name: str) -> None:
        opens = partial(open_session, artifact.folder / AUDIO_GRAPH, threads=threads)
        self._sound = Reopened(opens, partial(closed, name))
        self._sound.get()
        self._rows = VisionGraph(
            artifact.folder / HEARING, threads=threads, width=width, name=name, output=AUDIO_FEATURES
        )

    def features(self, blocks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the model reads of samples, float32 [blocks, samples] -> [blocks, ...]."""
        session = self._sound.get()
        with catch_out_of_memory(rows=len(blocks), tokens=blocks.shape[1]):
            made: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: blocks})[0]
        return made

    def rows(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Rows of features of one recording, float32 [rows, features]."""
        return self._rows.run(inputs)

    def close(self) -> None:
        """Release both sessions; safe to call twice."""
        self._sound.close()
        self._rows.close()
