"""A decoder that scores: of its output projection only the rows of the tokens that answer, at the last token of a text.

Everything else is the model's own forward, so that what it does to its logits, a scale or a soft cap, is done to these.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK
from jisu.exporter.sources.embedding.pooling import pool


class Scores(NamedTuple):
    """``logits`` float32 [B, 1]."""

    logits: Tensor


class AnswerRows(nn.Module):
    """The rows of an output projection that belong to some tokens; kept float, since there are one or two of them."""

    def __init__(self, projection: Any, tokens: tuple[int, ...]) -> None:
        super().__init__()
        rows = list(tokens)
        self.weight = nn.Parameter(projection.weight[rows].detach().clone(), requires_grad=False)
        bias = getattr(projection, "bias", None)
        self.bias = None if bias is None else nn.Parameter(bias[rows].detach().clone(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        return torch.nn.functional.linear(states, self.weight, self.bias)


class AnswerScorer(nn.Module):
    """``forward(input_ids, attention_mask) -> Scores``: the logit of a token, less that of another where there is one.

    Of "yes" and "no" the sigmoid of it is the probability of "yes" where nothing else can be said:
    sigmoid(a - b) = exp(a) / (exp(a) + exp(b)).

    Args:
        transformer: a causal language model of transformers, whose output projection is replaced.
        tokens: that of "yes", and that of "no" if there is one.
    """

    def __init__(self, transformer: nn.Module, tokens: tuple[int, ...]) -> None:
        super().__init__()
        self.transformer = transformer
        self.tokens = tokens
        _replace_projection(transformer, tokens)
        self._more = {"use_cache": False} if "use_cache" in inspect.signature(transformer.forward).parameters else {}

    @property
    def config(self) -> Any:
        """Of the decoder."""
        return self.transformer.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Scores:
        logits = self.transformer(input_ids, **{ATTENTION_MASK: attention_mask}, **self._more).logits
        last = pool(logits.to(torch.float32), attention_mask, "lasttoken")
        return Scores(last[:, :1] - last[:, 1:] if len(self.tokens) > 1 else last)


def _replace_projection(model: Any, tokens: tuple[int, ...]) -> None:
    projection = model.get_output_embeddings()
    path = next((name for name, child in model.named_modules() if projection is not None and child is projection), None)
    if not path or not isinstance(projection, nn.Linear):
        raise InputError(
            f"{type(model).__name__} has no output projection whose rows could be chosen",
            received=type(projection).__name__,
            allowed="a model whose get_output_embeddings gives a linear layer",
            fix="Choose another model.",
        )
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, AnswerRows(projection, tokens))
