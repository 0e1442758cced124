"""What an image becomes before a vision graph reads it: inputs of the graph, and how its features lie in the prompt.

Each way of cutting and scaling images has a file of its own; none knows a model. `PREPARATIONS` names them, and an
artifact says which one is its own, with the settings of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.runtimes.images.reading import Pixels

Settings = Mapping[str, Any]
# Of a vision graph's axis: a size, or a number of times the letter of a size that differs from image to image.
Axes = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One image, ready for a vision graph.

    Attributes:
        inputs: of the graph, by name.
        rows: lines of tiles or of features that the image was cut into; 0 where it was not.
        columns: the same across.
        arrange: rows of the graph's features in the order of the prompt, int64, by how many there are; None for all of
            them as they come.
    """

    inputs: dict[str, npt.NDArray[Any]]
    rows: int = 0
    columns: int = 0
    arrange: Callable[[int], npt.NDArray[np.int64]] | None = None


Prepare = Callable[[Pixels, Settings], Prepared]
