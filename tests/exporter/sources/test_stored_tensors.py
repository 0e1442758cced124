from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_tensors import account_for_tensors, leave_out, refuse_unexpected, take_off_prefix
from jisu.exporter.sources.stored_weights import StoredWeights
from tests.support.models import llama_config

torch = pytest.importorskip("torch", reason="sources are torch models")
LAYER = "model.layers.0.self_attn."


@pytest.fixture(scope="module")
def empty() -> Any:
    from transformers import LlamaForCausalLM

    config = llama_config(layers=1)
    config.num_nextn_predict_layers = 1
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def _fate(empty: Any, name: str, dtype: str = "F32") -> tuple[str, str]:
    (one,) = account_for_tensors(Account(), empty, match_names(empty, [name]), {name: dtype}).statements
    assert (one.name, one.dtype) == (name, dtype)
    return one.fate, one.why


@pytest.mark.parametrize(
    ("name", "fate", "words"),
    [
        ("model.norm.weight", "used", ""),
        (f"{LAYER}rotary_emb.inv_freq", "derived", "rotary"),
        (f"{LAYER}bias", "derived", "mask"),
        (f"{LAYER}masked_bias", "derived", "mask"),
        ("model.position_ids", "derived", "positions"),
        ("model.norm.num_batches_tracked", "harmless", "training"),
        ("score.weight", "unread", "another task"),
        ("v_head.summary.weight", "unread", "another task"),
        ("model.mtp.layers.0.norm.weight", "unread", "further tokens"),
        ("model.layers.1.mlp.up_proj.weight", "unread", "further tokens"),
        ("model.layers.2.mlp.up_proj.weight", "refused", "layers behind the 1"),
        (f"{LAYER}q_proj.bias", "refused", "attention_bias"),
        (f"{LAYER}q_norm.weight", "refused", "no place"),
        (f"{LAYER}sinks", "refused", "no place"),
        (f"{LAYER}q_proj.weight_scale", "refused", "scales or codes"),
        (f"{LAYER}q_proj.weight_scale_inv", "refused", "scales or codes"),
        (f"{LAYER}q_proj.qzeros", "refused", "scales or codes"),
        (f"{LAYER}q_proj.lora_A.default.weight", "refused", "adapter"),
        ("lm_head.bias", "refused", "biases"),
        ("vision_tower.layers.0.weight", "refused", "no place"),
    ],
)
def test_every_tensor_has_its_fate(empty: Any, name: str, fate: str, words: str) -> None:
    actual, why = _fate(empty, name)
    assert actual == fate
    assert words in why


@pytest.mark.parametrize(
    ("dtype", "fate"), [("BF16", "used"), ("F8_E4M3", "used"), ("F8_E8M0", "refused"), ("C64", "refused")]
)
def test_a_weight_is_of_numbers_that_are_its_values(empty: Any, dtype: str, fate: str) -> None:
    assert _fate(empty, "model.norm.weight", dtype)[0] == fate


def test_what_transformers_lists_for_its_class_is_left_out_and_told() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    with torch.device("meta"):
        empty = T5ForConditionalGeneration(T5Config(d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4))
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    assert _fate(empty, name)[0] == "unread"


def test_encoders_of_images_are_left_out_where_the_configuration_declares_one(empty: Any) -> None:
    from types import SimpleNamespace

    name = "vision_tower.layers.0.weight"
    match = match_names(empty, [name])
    for config, fate in (
        (SimpleNamespace(vision_config={}), "unread"),
        (SimpleNamespace(vision_config=None), "refused"),
    ):
        (one,) = account_for_tensors(Account(), empty, match, {name: "F32"}, config=config).statements
        assert one.fate == fate


def _stored(*names: str) -> StoredWeights:
    return StoredWeights(
        weights={name: torch.zeros(1) for name in names},
        shapes=dict.fromkeys(names, (1,)),
        dtypes=dict.fromkeys(names, "F32"),
        notes=("A note.",),
    )


def test_tensors_are_left_out_by_pattern() -> None:
    account, kept = leave_out(Account(ignore=("v.*", "none")), _stored("v.a", "w.a"))
    assert list(kept.weights) == list(kept.shapes) == list(kept.dtypes) == ["w.a"]
    assert account.names("ignored") == ["v.a"]
    assert kept.notes == ("A note.",)


def test_a_prefix_is_taken_off_and_told(empty: Any) -> None:
    names = [name for name, _ in empty.named_parameters()]
    account, stored = take_off_prefix(Account(), _stored(*(f"module.{name}" for name in names)), empty)
    assert list(stored.weights) == names
    assert "'module.'" in account.notes()[0]
    assert take_off_prefix(Account(), _stored(*names), empty)[0] == Account()
    wrapped = _stored(*(f"module.{name}" for name in [*names, "vision.weight"]))
    account, stored = take_off_prefix(Account(ignore=("vision.*",)), wrapped, empty)
    assert account.names("ignored") == ["vision.weight"]
    assert list(stored.weights) == names


def test_what_transformers_left_over_in_spite_of_a_place_is_refused(empty: Any) -> None:
    matches = match_names(empty, ["model.norm.weight", "score.weight"])
    account = refuse_unexpected(Account(), ["model.norm.weight", "score.weight"], matches)
    assert account.names("refused") == ["model.norm.weight"]
