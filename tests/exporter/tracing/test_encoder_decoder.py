from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from jisu.exporter.tracing.encoder_decoder import EncoderDecoder
from jisu.exporter.tracing.relative_biases import BiasLookup, _mask
from tests.support.models import PAD, biased_text_to_text_config, random_model, text_to_text_config

# Softmax over a buffer with masked places instead of over the prefix alone: another order of summation.
ROUNDING = 2e-5


@pytest.fixture(scope="module", params=["added positions", "relative biases"])
def model(request):
    config = text_to_text_config() if request.param == "added positions" else biased_text_to_text_config()
    return random_model(config).eval()


def state_of(module, sources, capacity):
    width = max(map(len, sources))
    ids = torch.tensor([[*source, *[PAD] * (width - len(source))] for source in sources])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
    buffers = [
        torch.zeros([{"B": len(sources), "capacity": capacity}.get(dim, dim) for dim in dims])
        for _, kind, dims, _ in module.state_spec()
        if kind == "kv"
    ]
    return [*buffers, *module.encode(ids, mask)], len(buffers)


def stock(model, source, answer):
    return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([answer]), use_cache=False).logits[0]


def test_the_state_is_the_decoders_own_then_what_the_encoder_writes(model):
    spec = EncoderDecoder(model).state_spec()
    assert [(name, kind) for name, kind, _, _ in spec] == [
        *((f"{layer}.{role}", "kv") for layer in range(2) for role in ("key", "value")),
        ("mask", "encoder"),
        *((f"{layer}.{role}", "encoder") for layer in range(2) for role in ("key", "value")),
    ]
    assert spec[0][2] == ("B", 2, "capacity", 16)
    assert spec[5][2] == ("B", 2, "source", 16)


@pytest.mark.parametrize("steps", [[6], [1] * 6, [2, 1, 3]])
def test_answers_in_pieces_are_the_stock_models(model, steps):
    module, source, answer = EncoderDecoder(model), [7, 8, 9, 10, 11], [PAD, 20, 21, 22, 23, 24]
    with torch.inference_mode():
        (state, own), place, actual = state_of(module, [source], 9), 0, []
        for step in steps:
            ids = torch.tensor([answer[place : place + step]])
            logits, written = module(ids, torch.tensor([place]), state)
            state = [*written, *state[own:]]
            actual.append(logits[0])
            place += step
        np.testing.assert_allclose(torch.cat(actual), stock(model, source, answer), atol=ROUNDING)


def test_rows_of_unequal_sources_and_pasts_do_not_touch_each_other(model):
    module, sources = EncoderDecoder(model), [[7, 8, 9, 10, 11], [12]]
    answers = [[PAD, 20, 21], [PAD, 30, 31, 32]]
    with torch.inference_mode():
        state, own = state_of(module, sources, 6)
        _, written = module(torch.tensor([[PAD, 20], [PAD, 30]]), torch.tensor([0, 0]), state)
        _, written = module(torch.tensor([[0], [31]]), torch.tensor([2, 2]), [*written, *state[own:]])
        logits, _ = module(torch.tensor([[21], [32]]), torch.tensor([2, 3]), [*written, *state[own:]])
        for row in range(2):
            expected = stock(model, sources[row], answers[row])[-1:]
            np.testing.assert_allclose(logits[row], expected, atol=ROUNDING)


def test_biases_of_the_last_place_are_taken_by_distance():
    """A buffer of 5 places; the first query's biases are those of distances 4, 3, 2, 1, 0."""
    bias = torch.tensor([[[[40.0, 30.0, 20.0, 10.0, 0.0], [-1.0] * 5]]])
    rows = BiasLookup([], torch.tensor([0, 3]), 5)._of_rows(bias, 2)
    assert rows.shape == (2, 1, 2, 5)
    assert rows[0, 0].tolist() == [[0, 0, 0, 0, 0], [10, 0, 0, 0, 0]]
    assert rows[1, 0].tolist() == [[30, 20, 10, 0, 0], [40, 30, 20, 10, 0]]


def test_one_lookup_serves_all_layers_that_share_their_biases():
    lookup = BiasLookup([], torch.tensor([1]), 3)
    bias = torch.zeros(1, 2, 1, 3)
    assert lookup._of_rows(bias, 1) is lookup._of_rows(bias, 1)
    assert lookup._of_rows(bias.clone(), 1) is not lookup._of_rows(bias, 1)


def seen(rule, **arguments):
    return _mask(batch_size=2, mask_function=rule, **arguments).int().tolist()


def test_padding_of_the_source_is_seen_by_no_query():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    actual = seen(bidirectional_mask_function, q_length=2, kv_length=3, q_offset=0, attention_mask=mask)
    assert actual == [[[[1, 1, 0]] * 2], [[[1, 1, 1]] * 2]]
    assert seen(bidirectional_mask_function, q_length=1, kv_length=2, q_offset=0) == [[[[1, 1]]]] * 2


def test_each_row_sees_its_own_past():
    actual = seen(causal_mask_function, q_length=2, kv_length=4, q_offset=torch.tensor([0, 2]))
    assert actual == [[[[1, 0, 0, 0], [1, 1, 0, 0]]], [[[1, 1, 1, 0], [1, 1, 1, 1]]]]


def test_the_models_own_attention_comes_back_after_a_trace():
    from jisu.exporter.tracing.trace_encoder import trace_encoder

    model = random_model(text_to_text_config(encoder_layers=1, decoder_layers=1)).eval()
    before = model.config._attn_implementation
    graph = trace_encoder(EncoderDecoder(model), longest=340).graph
    assert model.config._attn_implementation == before
    assert sum(node.op_type == "Attention" for node in graph) == 1
    assert [value.name for value in graph.inputs] == ["input_ids", "attention_mask"]
    names = {name for name in graph.initializers if "decoder" in name}
    assert all("encoder_attn" in name for name in names), "nothing else of the decoder"


def test_a_decoder_that_does_not_read_its_source_layer_by_layer_is_refused():
    class Silent(torch.nn.Module):
        config = SimpleNamespace(_attn_implementation="sdpa")

        def forward(self, **_):
            return SimpleNamespace(encoder_last_hidden_state=torch.zeros(1, 2, 4))

    from jisu.exporter.contract.errors import InputError

    with pytest.raises(InputError, match="cannot be carried from token to token"):
        EncoderDecoder(Silent())
