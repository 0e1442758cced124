"""A text classifier around any of the networks: the mean hidden state, and one score for each label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.models.body import build_body
from jisu.exporter.models.settings import PAD_ID, ModelSettings


class Classifier(nn.Module):
    """Token ids of whole texts -> scores of labels.

    Args:
        settings: sizes.
        labels: the names of the classes, two or more, all different.
    """

    def __init__(self, settings: ModelSettings, labels: Sequence[str]) -> None:
        super().__init__()
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise InputError(
                "A classifier cannot be built for these labels",
                received=", ".join(map(repr, labels)) or "none",
                allowed="two or more different labels",
                fix="Use data with texts of at least two classes.",
            )
        self.settings = settings
        self.labels = tuple(labels)
        self.embedding = nn.Embedding(settings.vocab_size, settings.embedding_size, padding_idx=PAD_ID)
        self.dropout = nn.Dropout(settings.dropout)
        self.body = build_body(settings)
        self.output = nn.Linear(settings.hidden_size, len(labels))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Score texts.

        Args:
            input_ids: int64 [B, T], padded on the right; what is padding changes no token before it.
            attention_mask: int64 [B, T], 1 for tokens and 0 for padding; None when there is no padding.

        Returns:
            float32 [B, labels], before the softmax.
        """
        hidden, _ = self.body(self.dropout(self.embedding(input_ids)), input_ids.new_zeros(input_ids.shape[0]), [])
        counted = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = counted.to(hidden.dtype)[:, :, None]
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        scores: Tensor = self.output(self.dropout(mean))
        return scores
