"""Poolings against what they are by hand, on rows with padding."""

from __future__ import annotations

import pytest
import torch

from jisu.exporter.sources.embedding.description import POOLING_MODES
from jisu.exporter.sources.embedding.pooling import pool

STATES = torch.tensor([[[1.0, -8.0], [3.0, -2.0], [99.0, 99.0]], [[2.0, 0.0], [4.0, 1.0], [6.0, 5.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1.0, -8.0], [2.0, 0.0]]),
        ("lasttoken", [[3.0, -2.0], [6.0, 5.0]]),
        ("max", [[3.0, -2.0], [6.0, 5.0]]),
        ("mean", [[2.0, -5.0], [4.0, 2.0]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, -10 / 2**0.5], [12 / 3**0.5, 6 / 3**0.5]]),
        ("weightedmean", [[7 / 3, -4.0], [28 / 6, 17 / 6]]),
    ],
)
def test_a_pooling_sees_the_tokens_and_no_padding(mode, expected):
    torch.testing.assert_close(pool(STATES, MASK, mode), torch.tensor(expected))


def test_padding_on_the_left_counts_positions_from_the_first_token():
    states, mask = STATES.flip(1), MASK.flip(1)
    for mode in POOLING_MODES:
        own = pool(states[:1, 1:], mask[:1, 1:], mode)
        torch.testing.assert_close(pool(states, mask, mode)[:1], own)


def test_a_prompt_that_is_left_out_keeps_the_positions_of_what_follows():
    pooled = pool(STATES[1:], torch.tensor([[0, 1, 1]]), "weightedmean", tokens=MASK[1:])
    torch.testing.assert_close(pooled, torch.tensor([[(2 * 4 + 3 * 6) / 5, (2 * 1 + 3 * 5) / 5]]))
