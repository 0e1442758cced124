"""The truth that a model which reads whole texts is judged by: its own forward on one text at a time, unpadded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import CLASSIFICATION, Activation, ModelKind
from jisu.exporter.contract.signature import ATTENTION_MASK, TOKEN_TYPE_IDS
from jisu.exporter.gate.reference import stock_attention
from jisu.exporter.sources.module_kind import model_of_transformers
from jisu.exporter.sources.one_pass_outputs import output_tensors

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.source import Source


class OnePassReference:
    """Runs a module ``forward(input_ids[, attention_mask])`` the way that its authors ship it.

    Attributes:
        columns: numbers of a row.
        kind: what the module is for.
        activation: what its logits mean.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        columns: int,
        kind: ModelKind = CLASSIFICATION,
        activation: Activation = "softmax",
    ) -> None:
        import torch

        self._module = module
        self.kind = kind
        self.activation = activation
        self._takes_mask = ATTENTION_MASK in inspect.signature(module.forward).parameters
        self.columns = columns
        self.description = f"{type(module).__name__} in torch {torch.__version__}, one text at a time"

    def logits(
        self,
        token_ids: npt.NDArray[np.int64],
        positions: slice | None = None,
        types: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float32]:
        """What the model gives for one text.

        Args:
            token_ids: int64 [T].
            positions: of no meaning here; whoever looks for a layer asks every reference alike.
            types: int64 [T], which tokens are of the first text of a pair and which of the second; zeros when None.

        Returns:
            float32 [1, columns], of a model that gives a row for each token [T, columns].
        """
        import torch

        ids = torch.from_numpy(np.ascontiguousarray(token_ids, dtype=np.int64))[None]
        more = {ATTENTION_MASK: torch.ones_like(ids)} if self._takes_mask else {}
        if types is not None:
            more[TOKEN_TYPE_IDS] = torch.from_numpy(np.ascontiguousarray(types, dtype=np.int64))[None]
        with stock_attention(model_of_transformers(self._module) or self._module):
            answer = output_tensors(self.kind, self._module(ids, **more), model=type(self._module).__name__)[-1]
        numbers: npt.NDArray[np.float32] = answer.numpy()
        return numbers if numbers.ndim == 2 else numbers[0]


def one_pass_reference(source: Source) -> OnePassReference:
    """The reference of a source that reads whole texts."""
    return OnePassReference(
        source.module, columns=source.columns, kind=source.model_kind, activation=source.model.activation
    )
