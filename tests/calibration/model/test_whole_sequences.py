from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jisu.calibration.model.whole_sequences import empty_state, has_state, run_whole
from tests.support.own_modules import Attentive, Recurrent, Stateless, seeded

IDS = torch.tensor([[3, 1, 4], [1, 5, 9]])


@pytest.mark.parametrize("module_class", [Recurrent, Attentive])
def test_a_module_with_state_begins_with_an_empty_one(module_class):
    module = seeded(module_class).eval()
    state = empty_state(module.state_spec(), batch=2, capacity=3)
    assert has_state(module)
    assert not any(tensor.any() for tensor in state)
    with torch.inference_mode():
        expected, _ = module(IDS, torch.zeros(2, dtype=torch.int64), state)
        assert torch.equal(run_whole(module, IDS), expected)


def test_a_state_is_made_as_its_specification_says():
    class Both(nn.Module):
        def state_spec(self):
            return [("a", "kv", ("B", 2, "capacity", 4), torch.float16), ("b", "recurrent", (3, "B"), "int64")]

    first, second = empty_state(Both().state_spec(), batch=5, capacity=7)
    assert (tuple(first.shape), first.dtype) == ((5, 2, 7, 4), torch.float16)
    assert (tuple(second.shape), second.dtype) == ((3, 5), torch.int64)


def test_a_module_of_token_ids_alone_is_called_with_them():
    module = seeded(Stateless).eval()
    assert not has_state(module)
    with torch.inference_mode():
        assert torch.equal(run_whole(module, IDS), module(IDS))


def test_a_cache_is_declined_and_logits_are_taken_out_of_an_output():
    class Cached(nn.Module):
        def forward(self, input_ids, use_cache=True):
            assert use_cache is False
            return SimpleNamespace(logits=input_ids.float())

    assert torch.equal(run_whole(Cached(), IDS), IDS.float())


def test_a_mask_that_is_needed_covers_every_token():
    class Masked(nn.Module):
        def forward(self, input_ids, attention_mask):
            return input_ids * attention_mask

    assert torch.equal(run_whole(Masked(), IDS), IDS)
