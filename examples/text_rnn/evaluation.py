"""How good a model is on texts it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from examples.text_rnn.batches import batches_of
from examples.text_rnn.losses import IGNORED, Loss, loss_of
from examples.text_rnn.prepared_data import Examples
from examples.text_rnn.scores import scores_and_targets
from examples.text_rnn.trained_model import Network


@dataclass(frozen=True, kw_only=True)
class LanguageModelQuality:
    """Mean loss in nats per token, and exp of it."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Among how many equally likely words the model chooses, on average."""
        return math.exp(self.loss)

    def __str__(self) -> str:
        return f"test loss {self.loss:.4f}, perplexity {self.perplexity:.2f} ({self.tokens} tokens)"


@dataclass(frozen=True, kw_only=True)
class ClassifierQuality:
    """``confusion[i][j]`` counts texts of label i that were taken for label j."""

    loss: float
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        return sum(row[place] for place, row in enumerate(self.confusion)) / sum(map(sum, self.confusion))

    def __str__(self) -> str:
        texts = sum(map(sum, self.confusion))
        return f"test loss {self.loss:.4f}, accuracy {self.accuracy:.4f} ({texts} texts)\n{self.table()}"

    def table(self) -> str:
        """The confusion matrix as text: a row for each true label, a column for each predicted one."""
        names = [*self.labels, "predicted"]
        width = max(len("true \\ "), *(display_width(name) for name in names)) + 2
        lines = ["".join(_padded(cell, width) for cell in ("true \\", *self.labels)) + "<- predicted"]
        for label, row in zip(self.labels, self.confusion, strict=True):
            lines.append("".join(_padded(cell, width) for cell in (label, *map(str, row))).rstrip())
        return "\n".join(lines)


def mean_loss(module: Network, examples: Examples, *, loss: Loss, batch_size: int = 64) -> float:
    """The mean loss over all rows that count: tokens of a language model, texts of a classifier."""
    module.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches_of(examples, size=batch_size):
            scores, targets = scores_and_targets(module, batch)
            rows = int((targets != IGNORED).sum())
            total, count = total + loss_of(loss, scores, targets).item() * rows, count + rows
    return total / count


def evaluate(
    module: Network, examples: Examples, labels: Sequence[str], *, batch_size: int = 64
) -> LanguageModelQuality | ClassifierQuality:
    """Measure the cross-entropy on all examples, and for a classifier which labels it takes for which."""
    loss = mean_loss(module, examples, loss="cross-entropy", batch_size=batch_size)
    if examples.label_ids is None:
        return LanguageModelQuality(loss=loss, tokens=sum(len(ids) - 1 for ids in examples.token_ids))
    confusion = [[0] * len(labels) for _ in labels]
    with torch.inference_mode():
        for batch in batches_of(examples, size=batch_size):
            scores, targets = scores_and_targets(module, batch)
            for true, predicted in zip(targets.tolist(), scores.argmax(dim=1).tolist(), strict=True):
                confusion[true][predicted] += 1
    return ClassifierQuality(loss=loss, labels=tuple(labels), confusion=tuple(map(tuple, confusion)))


def display_width(text: str) -> int:
    """Columns that a text takes on a terminal: a Chinese character takes two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
