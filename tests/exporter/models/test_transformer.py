from __future__ import annotations

import math

import torch

from jisu.exporter.models.transformer import sinusoids


def test_sinusoids_are_the_published_ones():
    actual = sinusoids(torch.tensor([[0, 3]]), 4)
    assert actual.shape == (1, 2, 4)
    assert actual[0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    expected = [math.sin(3), math.sin(3 / 100), math.cos(3), math.cos(3 / 100)]
    torch.testing.assert_close(actual[0, 1], torch.tensor(expected), atol=1e-6, rtol=1e-6)
