from __future__ import annotations

import pytest
import torch

from jisu.exporter.models.settings import NETWORKS
from tests.exporter.models.small import empty_state, language_model, scores_in_pieces


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 2, 1]])
def test_whole_sequence_equals_pieces_with_the_state_carried(network, pieces):
    model, ids = language_model(network), torch.randint(1, 40, (2, 7), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        # Sums of eight to sixteen float32 numbers in another order.
        torch.testing.assert_close(scores_in_pieces(model, ids, pieces), model.score(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_no_token_sees_what_comes_after_it(network):
    model, ids = language_model(network), torch.randint(1, 40, (1, 6), generator=torch.Generator().manual_seed(2))
    changed = ids.clone()
    changed[0, 4:] = (changed[0, 4:] % 38) + 1
    with torch.inference_mode():
        before, after = model.score(ids), model.score(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


@pytest.mark.parametrize("network", NETWORKS)
def test_earlier_tokens_count(network):
    model = language_model(network)
    with torch.inference_mode():
        one, other = model.score(torch.tensor([[3, 5, 6]])), model.score(torch.tensor([[4, 5, 6]]))
    assert not torch.allclose(one[:, -1], other[:, -1])


@pytest.mark.parametrize("network", NETWORKS)
def test_state_keeps_the_shape_that_its_specification_names(network):
    model = language_model(network)
    state = empty_state(model, batch=2, capacity=9)
    _, after = model(torch.ones((2, 4), dtype=torch.int64), torch.zeros(2, dtype=torch.int64), state)
    assert [tensor.shape for tensor in after] == [tensor.shape for tensor in state]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_learns_from_a_whole_sequence(network):
    model = language_model(network)
    model.score(torch.randint(1, 40, (3, 5))).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert torch.count_nonzero(model.embedding.weight[0]) == 0, "padding has no embedding"
    assert torch.count_nonzero(model.embedding.weight.grad[0]) == 0, "and learns none"
