"""A GGUF file's own integers of experts: one tensor holds the same matrix of all of them, and two may be one parameter.

Which tensor stands where in the model's matrix is found by the numbers themselves: in one order of the tensors an
expert's rows are those that the model was loaded with.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.experts import expert_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.quantization.matrices import Matrix
    from jisu.exporter.sources.gguf.header import GgufTensor


class ExpertTensors:
    """The matrices of experts in the tensors of a file; what was read last is kept for the next expert."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        """weights: `exporter.sources.gguf.weights.lazy_weights`, by the name of the parameter with all experts."""
        self._weights = weights
        self._name = ""
        self._read: list[tuple[GgufTensor, npt.NDArray[np.uint8], npt.NDArray[np.float32]]] = []

    def type_of(self, matrix: Matrix) -> str | None:
        """The one type of the blocks that a matrix is stored in; None where it is not stored as blocks of one type."""
        weight = self._weights.get(matrix.routed or "")
        if weight is None or any(len(tensor.shape) != 3 for tensor in weight.tensors):
            return None
        kinds = {tensor.type_name for tensor in weight.tensors}
        return kinds.pop() if len(kinds) == 1 else None

    def quantized(self, matrix: Matrix, own: npt.NDArray[np.float32]) -> BlockQuantized | None:
        """An expert's blocks in the kernels' form; None where its rows are no others than the model was loaded with.

        Args:
            own: the matrix in the model, float32 [N, K].

        Raises:
            FormatError: a type that has no such form.
        """
        import numpy as np

        from jisu.calibration.weights.gguf_blocks import blocks_to_quantized

        number = expert_number(matrix.name)
        for order in permutations(self._tensors(matrix)):
            values = np.concatenate([values[number] for _, _, values in order])
            if values.shape != own.shape or not np.array_equal(values, own):
                continue
            parts = [
                blocks_to_quantized(tensor.type_name, _slice(raw, tensor, number), values[number], layer=matrix.name)
                for tensor, raw, values in order
            ]
            return _stacked(parts)
        return None

    def _tensors(self, matrix: Matrix) -> list[Any]:
        from jisu.exporter.sources.gguf.weights import read_blocks

        assert matrix.routed is not None
        if self._name != matrix.routed:
            self._read = [(tensor, *read_blocks(tensor)) for tensor in self._weights[matrix.routed].tensors]
            self._name = matrix.routed
        return self._read


def _slice(raw: npt.NDArray[np.uint8], tensor: GgufTensor, number: int) -> npt.NDArray[np.uint8]:
    size = len(raw) // tensor.shape[0]
    return raw[number * size : (number + 1) * size]


def _stacked(parts: list[BlockQuantized]) -> BlockQuantized:
    from dataclasses import replace

    import numpy as np

    return replace(
        parts[0],
        codes=np.concatenate([part.codes for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        zero_points=np.concatenate([part.zero_points for part in parts]),
    )
