from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.runtimes.backends.tensorrt.profiles import Shapes, default_shapes, profiles_for

CACHE = StateSpec(
    past="past_key_values.0.key", present="present.0.key", kind="kv", dtype="float16", dims=("B", 2, "capacity", 8)
)
SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),
        TensorSpec(name="past_length", dtype="int64", dims=("B",)),
        TensorSpec(name="logits_positions", dtype="int64", dims=("B", "K")),
    ),
    outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "K", 9)),),
    state=(CACHE,),
)


SOURCE = StateSpec(
    past="encoder_state.0.key",
    present="encoder_state.0.key",
    kind="encoder",
    dtype="float16",
    dims=("B", 2, "source", 8),
)


def artifact(most, *, sources=None, signature=SIGNATURE):
    facts = SimpleNamespace(max_positions=most, max_source_positions=sources, architecture="Tiny")
    return SimpleNamespace(manifest=SimpleNamespace(model=facts, signature=signature))


def test_prompts_and_single_tokens_share_a_cache_of_one_length():
    prefill, decode = profiles_for(SIGNATURE, Shapes(capacity=64, prompt=16, batch=4))
    assert prefill.shapes["input_ids"] == ((1, 1), (4, 8), (4, 16))
    assert decode.shapes["input_ids"] == ((1, 1), (4, 1), (4, 2))
    for profile in (prefill, decode):
        assert profile.shapes["past_key_values.0.key"] == ((1, 2, 64, 8), (4, 2, 64, 8), (4, 2, 64, 8))
        assert profile.shapes["logits_positions"] == ((1, 1), (4, 1), (4, 1))
        assert profile.shapes["past_length"] == ((1,), (4,), (4,))


def test_a_graph_without_a_state_has_no_profile_for_single_tokens():
    assert [profile.name for profile in profiles_for(replace(SIGNATURE, state=()), Shapes())] == ["prefill"]


def test_a_graph_that_takes_one_token_has_nothing_else():
    one = (TensorSpec(name="input_ids", dtype="int64", dims=("B", 1)), *SIGNATURE.inputs[1:])
    assert [profile.name for profile in profiles_for(replace(SIGNATURE, inputs=one), Shapes())] == ["decode"]


def test_an_encoder_reads_texts_and_its_decoder_single_tokens():
    signature = replace(SIGNATURE, state=(CACHE, SOURCE))
    shapes = Shapes(capacity=64, prompt=1, batch=4, source=10)
    (decode,) = profiles_for(signature, shapes)
    assert decode.name == "decode"
    assert decode.shapes["input_ids"] == ((1, 1), (4, 1), (4, 2))
    assert decode.shapes["encoder_state.0.key"] == ((1, 2, 1, 8), (4, 2, 5, 8), (4, 2, 10, 8))
    (prefill,) = profiles_for(signature.encoder(), shapes)
    assert prefill.name == "prefill"
    assert prefill.shapes["input_ids"] == prefill.shapes["attention_mask"] == ((1, 1), (4, 5), (4, 10))


def test_the_option_of_prompts_means_sources_where_there_is_an_encoder():
    signature = replace(SIGNATURE, state=(CACHE, SOURCE))
    assert default_shapes(artifact(None, signature=signature)) == Shapes(capacity=2048, prompt=1, source=512)
    short = artifact(16, sources=300, signature=signature)
    assert default_shapes(short) == Shapes(capacity=16, prompt=1, source=300)
    assert default_shapes(short, prompt=40, batch=2) == Shapes(capacity=16, prompt=1, batch=2, source=40)
    with pytest.raises(InputError, match="--prompt 301.*up to 300, the encoder's positions of Tiny"):
        default_shapes(short, prompt=301)
    with pytest.raises(InputError, match="source is out of range.*Correct --prompt"):
        default_shapes(short, prompt=0)


def test_an_unknown_dimension_is_refused():
    odd = (*SIGNATURE.inputs, TensorSpec(name="x", dtype="int64", dims=("windows",)))
    with pytest.raises(InputError, match="a dimension that .*windows"):
        profiles_for(replace(SIGNATURE, inputs=odd), Shapes())


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"capacity": -1}, {"capacity": 8, "prompt": 9}])
def test_shapes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        Shapes(**wrong)


def test_what_is_left_open_follows_the_model():
    assert default_shapes(artifact(512)) == Shapes(capacity=512, prompt=512)
    assert default_shapes(artifact(8192)) == Shapes(capacity=2048, prompt=512)
    assert default_shapes(artifact(None), capacity=100) == Shapes(capacity=100, prompt=100)
    with pytest.raises(InputError, match="up to 512, the positions of Tiny"):
        default_shapes(artifact(512), capacity=513)
