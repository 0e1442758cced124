"""A transformers model that is run over the whole text again for each new token, since no state of it can be carried.

Slower than a cache and right for any model that continues a text: it is asked what its own forward says, with its
attention and experts routed through this package as far as they go that way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jisu.exporter.sources.facts import longest_text
from jisu.exporter.tracing.routing import ATTENTION, SPELLED_OUT, asks_for_attention, routed

_OBSERVED = 2  # tokens that the model is watched with


class WholeText(nn.Module):
    """A transformers model as ``forward(input_ids) -> logits``; int64 [B, T], rows padded on the right -> [B, T, V]."""

    weight_prefix = "model."

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        asks = asks_for_attention(model, lambda: self._call(torch.arange(_OBSERVED)[None]))
        self._attention = ATTENTION if asks else SPELLED_OUT
        self.max_positions = longest_text(model.config.get_text_config())

    def forward(self, input_ids: Tensor) -> Tensor:
        with routed(self.model, self._attention):
            return self._call(input_ids)

    def _call(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits
