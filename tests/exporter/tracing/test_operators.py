from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.tracing.operators import attention, scatter_cache


def test_new_keys_go_where_each_row_ends():
    past = torch.zeros(2, 1, 4, 1)
    new = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 1, 2, 1)
    actual = scatter_cache(past, new, torch.tensor([0, 2]))
    assert actual.reshape(2, 4).tolist() == [[1, 2, 0, 0], [0, 0, 3, 4]]
    assert actual is past  # a copy of every buffer would be another state


def reference(query, key, value, mask, *, scale, softcap):
    """The definition, head by head in float64."""
    query, key, value = (tensor.double().numpy() for tensor in (query, key, value))
    result = np.zeros((*query.shape[:3], value.shape[3]))
    for row, head in np.ndindex(query.shape[:2]):
        of = head * key.shape[1] // query.shape[1]
        scores = query[row, head] @ key[row, of].T * scale
        if softcap:
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(mask[row, 0].numpy(), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        result[row, head] = weights / weights.sum(-1, keepdims=True) @ value[row, of]
    return result


@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_attention_is_what_its_definition_says(softcap):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 6)
    mask = (
        torch.arange(5)[None, None, None]
        <= torch.arange(3)[None, None, :, None] + torch.tensor([0, 2])[:, None, None, None]
    )
    actual = attention(query, key, value, mask, scale=0.7, softcap=softcap)
    np.testing.assert_allclose(actual, reference(query, key, value, mask, scale=0.7, softcap=softcap), atol=2e-6)
