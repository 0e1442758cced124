"""The graphs of an artifact that read images or recordings, on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import IMAGE_FEATURES
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.row_lengths import closed


class VisionGraph:
    """Turns one image, or one recording, into rows of features.

    Args:
        width: of a row, as the decoder reads it.
        output: its name.

    Raises:
        InputError: the graph is damaged, or gives rows of another width.
    """

    def __init__(
        self, graph: Path, *, threads: int | None, width: int, name: str, output: str = IMAGE_FEATURES
    ) -> None:
        self._session = Reopened(partial(open_session, graph, threads=threads), partial(closed, name))
        self._output = output
        outputs = {item.name: list(item.shape) for item in self._session.get().get_outputs()}
        if set(outputs) != {output} or outputs[output][1:] != [width]:
            raise InputError(
                f"{graph} does not give what the decoder reads",
                received=", ".join(f"{key} {shape}" for key, shape in outputs.items()),
                allowed=f"{output} [rows, {width}]",
                fix="Export the model again; one of the graphs was replaced.",
            )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Rows of features, float32 [rows, features]."""
        with catch_out_of_memory(rows=1, tokens=sum(len(array) for array in inputs.values())):
            features: npt.NDArray[np.float32] = self._session.get().run([self._output], dict(inputs))[0]
        return features

    def close(self) -> None:
        """Release the session; safe to call twice."""
        self._session.close()
