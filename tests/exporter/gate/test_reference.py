from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from jisu.exporter.gate.reference import TorchReference

IDS = np.arange(10, dtype=np.int64)


@pytest.fixture
def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_logits_are_the_modules_own(llama):
    llama.eval()
    expected = llama(torch.from_numpy(IDS)[None]).logits[0].detach().numpy()
    assert np.array_equal(TorchReference(llama).logits(IDS), expected)


def test_asked_for_rows_are_those_rows(llama):
    reference = TorchReference(llama)
    whole = reference.logits(IDS)
    some = reference.logits(IDS, slice(3, 7))
    assert some.shape == (4, 50)
    assert np.allclose(some, whole[3:7], atol=1e-5)


@pytest.mark.parametrize("keeps_rows", [True, False])
def test_every_third_row_can_be_asked_for(llama, keeps_rows):
    reference = TorchReference(llama)
    reference._keeps_rows = keeps_rows
    some = reference.logits(IDS, slice(1, 10, 3))
    assert np.allclose(some, reference.logits(IDS)[1:10:3], atol=1e-5)


def test_a_module_that_cannot_select_rows_gives_the_same(llama):
    reference = TorchReference(llama)
    selected = reference.logits(IDS, slice(3, 7))
    reference._keeps_rows = False
    assert np.allclose(reference.logits(IDS, slice(3, 7)), selected, atol=1e-5)


def test_foreign_attention_is_set_aside_and_restored(llama):
    def wrong(module, query, key, value, attention_mask, **options):
        return torch.zeros_like(query).transpose(1, 2), None

    expected = TorchReference(llama).logits(IDS)
    AttentionInterface.register("test_wrong_attention", wrong)
    llama.set_attn_implementation("test_wrong_attention")
    llama.eval()
    assert not np.allclose(llama(torch.from_numpy(IDS)[None]).logits[0].detach().numpy(), expected, atol=1e-3)
    assert np.array_equal(TorchReference(llama).logits(IDS), expected)
    assert llama.config._attn_implementation == "test_wrong_attention"


def test_attention_and_mode_are_restored_after_an_error(llama):
    AttentionInterface.register("test_other_attention", lambda *args, **options: None)
    llama.set_attn_implementation("test_other_attention")
    llama.train()
    with pytest.raises(RuntimeError, match="stop"), TorchReference(llama).stock():
        assert not llama.training
        raise RuntimeError("stop")
    assert llama.training
    assert llama.config._attn_implementation == "test_other_attention"


def test_the_same_tokens_give_the_same_numbers(llama):
    reference = TorchReference(llama)
    assert np.array_equal(reference.logits(IDS), reference.logits(IDS))


def test_a_model_without_output_embedding_is_refused(llama):
    with pytest.raises(TypeError, match="no output embedding"):
        TorchReference(llama.model)
