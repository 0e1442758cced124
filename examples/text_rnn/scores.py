"""A batch -> rows of scores and their targets: the one place that knows the two kinds of model apart."""

from __future__ import annotations

from torch import Tensor

from examples.text_rnn.batches import Batch
from examples.text_rnn.trained_model import Network
from jisu.networks import LanguageModel


def scores_and_targets(module: Network, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [N, K] and targets int64 [N]: a row for each token of a language model, for each text of a classifier."""
    input_ids, attention_mask, targets = batch
    if isinstance(module, LanguageModel):
        return module.score(input_ids).flatten(0, 1), targets.flatten()
    return module(input_ids, attention_mask), targets
