"""The truth that an exported classifier is judged by: the source's own forward on one text at a time, unpadded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.signature import ATTENTION_MASK, LOGITS
from jisu.exporter.gate.reference import stock_attention

if TYPE_CHECKING:
    import torch


class ClassifierReference:
    """Runs a module ``forward(input_ids[, attention_mask])`` the way that its authors ship it."""

    def __init__(self, module: torch.nn.Module, *, labels: int) -> None:
        import torch

        self._module = module
        self._takes_mask = ATTENTION_MASK in inspect.signature(module.forward).parameters
        self.labels = labels
        self.description = f"{type(module).__name__} in torch {torch.__version__}, one text at a time"

    def logits(self, token_ids: npt.NDArray[np.int64], positions: slice | None = None) -> npt.NDArray[np.float32]:
        """Logits of one text.

        Args:
            token_ids: int64 [T].
            positions: of no meaning here; whoever looks for a layer asks every reference alike.

        Returns:
            float32 [1, labels].
        """
        import torch

        ids = torch.from_numpy(np.ascontiguousarray(token_ids, dtype=np.int64))[None]
        more = {ATTENTION_MASK: torch.ones_like(ids)} if self._takes_mask else {}
        with stock_attention(self._module) as module:
            output: Any = module(ids, **more)
        logits: npt.NDArray[np.float32] = getattr(output, LOGITS, output).float().numpy()
        return logits
