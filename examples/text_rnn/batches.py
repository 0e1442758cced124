"""Token ids of single texts -> batches for training, padded on the right and shuffled by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from examples.text_rnn.losses import IGNORED
from examples.text_rnn.prepared_data import Examples
from jisu.networks import PAD_ID

# input_ids int64 [B, T], attention_mask int64 [B, T], and targets: int64 [B, T] for a language model, each the token
# after its input and `IGNORED` for padding, or int64 [B] for a classifier.
Batch = tuple[Tensor, Tensor, Tensor]


class TextDataset(Dataset[tuple[tuple[int, ...], int | None]]):
    """One text and its label at a time."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples.token_ids)

    def __getitem__(self, index: int) -> tuple[tuple[int, ...], int | None]:
        labels = self.examples.label_ids
        return self.examples.token_ids[index], None if labels is None else labels[index]


def batches_of(examples: Examples, *, size: int, shuffle_seed: int | None = None) -> DataLoader[Batch]:
    """Batches in order, or shuffled; the same seed gives the same order."""
    generator = None if shuffle_seed is None else torch.Generator().manual_seed(shuffle_seed)
    return DataLoader(
        TextDataset(examples),  # type: ignore[arg-type]  # torch types the loader by what it is given, not by its batches
        batch_size=size,
        shuffle=generator is not None,
        generator=generator,
        collate_fn=_collate,
    )


def part_of(examples: Examples, places: Sequence[int]) -> Examples:
    """The examples at these places."""
    labels = examples.label_ids
    return Examples(
        token_ids=tuple(examples.token_ids[place] for place in places),
        label_ids=None if labels is None else tuple(labels[place] for place in places),
    )


def _collate(rows: Sequence[tuple[tuple[int, ...], int | None]]) -> Batch:
    labels = [label for _, label in rows if label is not None]
    if labels:
        ids = _padded([ids for ids, _ in rows], PAD_ID)
        return ids, _mask([len(ids) for ids, _ in rows]), torch.tensor(labels)
    inputs, targets = [ids[:-1] for ids, _ in rows], [ids[1:] for ids, _ in rows]
    return _padded(inputs, PAD_ID), _mask([len(ids) for ids in inputs]), _padded(targets, IGNORED)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def _mask(lengths: Sequence[int]) -> Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(torch.int64)
