from __future__ import annotations

import torch

from jisu.exporter.models.ngram import NGram
from tests.exporter.models.small import settings


def test_one_layer_is_the_published_formula():
    """tanh(W [e_{t-1}; e_t] + b) with numbers small enough to do by hand."""
    network = NGram(settings("ngram", embedding_size=1, hidden_size=1, layers=1, context=2)).eval()
    layer = network.layers[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, 2.0]]))
        layer.bias.copy_(torch.tensor([0.25]))
    hidden, state = network(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1), [])
    # First word: 0.5 * 0 + 2 * 1 + 0.25; second: 0.5 * 1 + 2 * 3 + 0.25.
    torch.testing.assert_close(hidden.flatten(), torch.tanh(torch.tensor([2.25, 6.75])))
    assert state[0].tolist() == [[[3.0]]]


def test_words_beyond_the_context_are_forgotten():
    network = NGram(settings("ngram", context=3)).eval()
    embedded = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))
    other = embedded.clone()
    other[:, 0] += 1
    before, after = (network(inputs, torch.zeros(1), [])[0] for inputs in (embedded, other))
    assert torch.equal(before[:, 3:], after[:, 3:])
    assert not torch.equal(before[:, 2], after[:, 2])
