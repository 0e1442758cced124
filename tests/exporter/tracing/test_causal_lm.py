from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Lfm2Config

from jisu.exporter.contract.errors import InputError
from jisu.exporter.tracing import causal_lm
from jisu.exporter.tracing.causal_lm import CausalLM, StateNotCarriedError
from tests.exporter.tracing.calls import eager, empty_state, stock_logits, tokens
from tests.support.models import TINY_VOCAB, llama_config, random_model

# Softmax over a buffer with masked places instead of over the prefix alone: another order of summation, logits near 5.
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def model():
    return random_model(llama_config()).eval()


def test_the_state_is_keys_and_values_of_each_layer(model):
    dims = ("B", 2, "capacity", 16)
    assert CausalLM(model).state_spec() == [
        ("0.key", "kv", dims, "float32"),
        ("0.value", "kv", dims, "float32"),
        ("1.key", "kv", dims, "float32"),
        ("1.value", "kv", dims, "float32"),
    ]


def test_convolution_and_recurrent_states_are_described_layer_by_layer():
    from transformers import MambaConfig

    mamba = random_model(MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=TINY_VOCAB, state_size=4)).eval()
    assert CausalLM(mamba).state_spec() == [
        ("0.conv.0", "recurrent", ("B", 32, 4), "float32"),
        ("0.recurrent.0", "recurrent", ("B", 32, 4), "float32"),
    ]


def test_a_state_that_is_no_tensor_of_a_known_kind_is_refused():
    class Compressed:
        layers = (type("Blocks", (), {"keys": torch.zeros(1, 1, 5, 8), "values": torch.zeros(1, 1, 5, 8)})(),)

    model = random_model(llama_config()).eval()
    forward = model.forward

    def with_other_cache(**arguments):
        output = forward(**arguments)
        output.past_key_values = Compressed()
        return output

    model.forward = with_other_cache
    with pytest.raises(InputError, match="cannot be carried from token to token. Received: a cache of Blocks"):
        CausalLM(model)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 9), (3, 5)])
def test_a_prefill_is_the_stock_models(model, batch, length):
    module, ids = CausalLM(model), tokens(batch, length)
    logits, _ = eager(module, ids, [0] * batch, empty_state(module, batch, length + 3))
    np.testing.assert_allclose(logits.numpy(), stock_logits(model, ids), atol=ROUNDING)


@pytest.mark.parametrize("steps", [[1] * 9, [4, 5], [1, 8], [3, 3, 3]])
def test_chunks_and_single_tokens_give_what_the_whole_gives(model, steps):
    module, ids = CausalLM(model), tokens(2, 9)
    state, place, actual = empty_state(module, 2, 12), 0, []
    for step in steps:
        logits, state = eager(module, ids[:, place : place + step], [place, place], state)
        actual.append(logits)
        place += step
    np.testing.assert_allclose(torch.cat(actual, 1).numpy(), stock_logits(model, ids), atol=ROUNDING)


def test_ragged_rows_continue_where_each_of_them_ends(model):
    """Rows of 2, 6 and 4 tokens, padded on the right to 6; then one more token for each."""
    module, ids, lengths = CausalLM(model), tokens(3, 7), [2, 6, 4]
    _, state = eager(module, ids[:, :6], [0, 0, 0], empty_state(module, 3, 10))
    after = torch.stack([ids[row, length] for row, length in enumerate(lengths)])[:, None]
    logits, _ = eager(module, after, lengths, state)
    for row, length in enumerate(lengths):
        whole = stock_logits(model, ids[row : row + 1, : length + 1])
        np.testing.assert_allclose(logits[row, 0].numpy(), whole[0, -1], atol=ROUNDING)


def test_a_wrong_past_length_shows(model):
    """The comparison above can fail."""
    module, ids = CausalLM(model), tokens(1, 7)
    _, state = eager(module, ids[:, :6], [0], empty_state(module, 1, 10))
    logits, _ = eager(module, ids[:, 6:], [5], state)
    assert np.abs(logits[0, 0].numpy() - stock_logits(model, ids)[0, -1]).max() > 1e-2


def test_a_sliding_window_is_kept():
    from transformers import MistralConfig

    settings = {
        key: value for key, value in llama_config().to_dict().items() if key not in ("model_type", "architectures")
    }
    model = random_model(MistralConfig(**{**settings, "sliding_window": 4})).eval()
    module, ids = CausalLM(model), tokens(1, 12)
    logits, _ = eager(module, ids, [0], empty_state(module, 1, 12))
    np.testing.assert_allclose(logits.numpy(), stock_logits(model, ids), atol=ROUNDING)


@pytest.mark.parametrize("own", ["eager", "sdpa"])
def test_the_models_own_attention_comes_back(model, own):
    model.set_attn_implementation(own)
    module = CausalLM(model)
    eager(module, tokens(1, 2), [0], empty_state(module, 1, 4))
    assert model.config._attn_implementation == own


def test_the_models_own_attention_comes_back_after_an_exception(model):
    own = model.config._attn_implementation
    module = CausalLM(model)
    with pytest.raises(Exception):  # noqa: B017 - whatever torch makes of buffers of another width
        eager(module, tokens(1, 2), [0], [tensor[..., :3] for tensor in empty_state(module, 1, 4)])
    assert model.config._attn_implementation == own


def test_attention_routed_once_stays_routed(model):
    own = model.config._attn_implementation
    module = CausalLM(model)
    module.route_attention()
    try:
        eager(module, tokens(1, 2), [0], empty_state(module, 1, 4))
        assert model.config._attn_implementation == "jisu"
    finally:
        model.set_attn_implementation(own)


def test_an_attention_with_an_argument_of_its_own_is_left_to_the_model():
    """Sinks: another logit for each head in the softmax, which no operator of ours takes."""
    from transformers import GptOssConfig

    config = GptOssConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=TINY_VOCAB, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    model = random_model(config).eval()
    module, ids = CausalLM(model), tokens(2, 9)
    logits, _ = eager(module, ids, [0, 0], empty_state(module, 2, 12))
    np.testing.assert_allclose(logits.numpy(), stock_logits(model, ids), atol=ROUNDING)


def ragged(module, ids, lengths):
    """Logits of one more token for rows of different lengths, each fed by itself before."""
    parts = []
    for row, length in enumerate(lengths):
        state = empty_state(module, 1, 12)
        for place in range(length):
            _, state = eager(module, ids[row : row + 1, place : place + 1], [place], state)
        parts.append(state)
    state = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    after = torch.stack([ids[row, length] for row, length in enumerate(lengths)])[:, None]
    return eager(module, after, list(lengths), state)[0]


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": TINY_VOCAB}
# Each reads the past in its own way: off a padding mask, off the cache's length as a number, off both; or keeps states.
READERS = {
    "positions from a padding mask": ("OPTConfig", {"ffn_dim": 32, "word_embed_proj_dim": 32}),
    "alibi as long as past and new tokens": ("FalconConfig", {"alibi": True}),
    "alibi cut to the length of the past": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2,
        "max_seq_len": 64}),
    "places of new tokens added to the past's length": ("BartConfig", {"d_model": 32, "is_encoder_decoder": False,
        "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 32, "vocab_size": TINY_VOCAB}),
    "a scan": ("MambaConfig", {"state_size": 4}),
    "attention beside a scan": ("FalconH1Config", {"intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8,
        "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_rows_of_different_lengths_are_right_however_a_model_reads_its_past(reader):
    import transformers

    name, changes = READERS[reader]
    own_names = name in ("MptConfig", "BartConfig")
    known = {"vocab_size": TINY_VOCAB} if own_names else SMALL
    model = random_model(getattr(transformers, name)(**{**known, **changes})).eval()
    ids, lengths = tokens(3, 8), [2, 7, 4]
    actual = ragged(CausalLM(model), ids, lengths)
    for row, length in enumerate(lengths):
        whole = stock_logits(model, ids[row : row + 1, : length + 1])
        np.testing.assert_allclose(actual[row, 0].numpy(), whole[0, -1], atol=ROUNDING)


def test_keys_that_an_index_chooses_are_state_as_well():
    """Eight of them, also where a buffer has room for fewer."""
    from transformers import CONFIG_MAPPING

    from jisu.benchmarks.studies.tiny_configurations import tiny_configuration

    model = random_model(tiny_configuration(CONFIG_MAPPING["deepseek_v32"])).eval()
    module, ids, lengths = CausalLM(model), tokens(2, 12), [11, 9]
    assert ("0.index", "kv", ("B", 1, "capacity", 16), "float32") in module.state_spec()
    actual = ragged(module, ids, lengths)
    for row, length in enumerate(lengths):
        whole = stock_logits(model, ids[row : row + 1, : length + 1])
        np.testing.assert_allclose(actual[row, 0].numpy(), whole[0, -1], atol=ROUNDING)
    logits, _ = eager(module, ids[:, :3], [0, 0], empty_state(module, 2, 3))
    np.testing.assert_allclose(logits.numpy(), stock_logits(model, ids[:, :3]), atol=ROUNDING)


def test_a_model_that_cannot_be_called_says_why():
    model = random_model(llama_config()).eval()
    forward = model.forward

    def refusing(input_ids=None, past_key_values=None, use_cache=None):
        if past_key_values is not None:
            raise ValueError("no past, please")
        return forward(input_ids=input_ids, use_cache=use_cache)

    model.forward = refusing
    with pytest.raises(
        InputError, match="cannot continue from an explicit state. Received: ValueError: no past, please"
    ):
        CausalLM(model)


def test_a_model_that_makes_no_cache_itself_says_why():
    config = Lfm2Config(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=TINY_VOCAB,
        layer_types=["conv", "conv"],
    )
    with pytest.raises(StateNotCarriedError, match=r"cannot be called with a cache\. Received: ValueError: .*get_seq"):
        CausalLM(random_model(config))


def test_a_window_that_is_counted_from_the_end_of_a_buffer_is_found_to_be_wrong():
    """Its rows agree while the buffer is no longer than the window."""
    from transformers import GPTNeoConfig

    config = GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=32, window_size=16, vocab_size=TINY_VOCAB,
        max_position_embeddings=64, attention_types=[[["global", "local"], 1]],
    )  # fmt: skip
    with pytest.raises(StateNotCarriedError, match="other logits than from the beginning"):
        CausalLM(random_model(config).eval())


def test_every_registration_is_as_it_was_after_a_call():
    from transformers import FalconConfig
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    before = {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in ("eager", "sdpa")}
    model = random_model(FalconConfig(**SMALL)).eval()
    own = model.config._attn_implementation
    CausalLM(model)
    assert {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in before} == before
    assert model.config._attn_implementation == own


def test_what_was_found_out_about_a_large_model_is_not_tried_again(monkeypatch):
    model = random_model(llama_config()).eval()
    monkeypatch.setattr(causal_lm, "PAGED_FROM", 0)
    first = CausalLM(model)
    monkeypatch.setattr(CausalLM, "_fitting_call", lambda self: pytest.fail("tried again"))
    again = CausalLM(model)
    assert again.state_spec() == first.state_spec()
    ids = torch.arange(5)[None]
    with torch.inference_mode():
        states = [empty_state(one, batch=1, capacity=8) for one in (first, again)]
        logits = [one(ids, torch.tensor([0]), state)[0] for one, state in zip((first, again), states, strict=True)]
    assert torch.equal(*logits)
