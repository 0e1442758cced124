from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.derived_tensors import check_derived
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_tensors import account_for_tensors
from tests.support.models import llama_config, random_model

torch = pytest.importorskip("torch", reason="sources are torch models")
POSITIONS = 32
LAYER = "model.layers.0.self_attn."
NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(llama_config(layers=1))


def _judged(model: Any, **tensors: Any) -> dict[str, str]:
    weights = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    matches = match_names(model, weights)
    dtypes = {name: NAMES.get(tensor.dtype, "BOOL") for name, tensor in weights.items()}
    account = account_for_tensors(Account(), model, matches, dtypes)
    return {one.name: one.fate for one in check_derived(account, model, weights, matches).statements}


def _fate(model: Any, name: str, tensor: Any) -> str:
    return _judged(model, **{name: tensor})[name]


def _frequencies(model: Any, base: float = 10000.0) -> Any:
    half = model.model.rotary_emb.inv_freq.shape[0]
    return 1.0 / base ** (torch.arange(half).float() / half)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_frequencies_of_the_configuration_are_derived_and_others_refused(model: Any, dtype: Any) -> None:
    name = f"{LAYER}rotary_emb.inv_freq"
    assert _fate(model, name, _frequencies(model).to(dtype)) == "derived"
    assert _fate(model, name, _frequencies(model, 12000.0).to(dtype)) == "refused"
    assert _fate(model, name, _frequencies(model)[:-1].to(dtype)) == "refused"


def test_frequencies_before_their_scaling_are_derived() -> None:
    config = llama_config(layers=1)
    config.rope_parameters = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    scaled = random_model(config)
    name = f"{LAYER}rotary_emb.inv_freq"
    assert _fate(scaled, name, _frequencies(scaled)) == "derived"
    assert _fate(scaled, name, _frequencies(scaled) / 4) == "derived"
    assert _fate(scaled, name, _frequencies(scaled) / 2) == "refused"


def test_rotary_tables_are_compared_row_by_row(model: Any) -> None:
    angles = torch.outer(torch.arange(POSITIONS).float(), _frequencies(model)).repeat(1, 2)
    assert _fate(model, f"{LAYER}rotary_emb.cos_cached", angles.cos()[None, None]) == "derived"
    assert _fate(model, f"{LAYER}rotary_emb.sin_cached", angles.sin()[None, None].half()) == "derived"
    angles[-1] += 0.1
    assert _fate(model, f"{LAYER}rotary_emb.cos_cached", angles.cos()[None, None]) == "refused"


def test_a_causal_mask_is_derived_and_a_windowed_one_refused(model: Any) -> None:
    causal = torch.ones(8, 8, dtype=torch.bool).tril()
    assert _fate(model, f"{LAYER}bias", causal[None, None]) == "derived"
    assert _fate(model, f"{LAYER}bias", causal.float()) == "derived"
    assert _fate(model, f"{LAYER}bias", causal.triu(-3)) == "refused"
    assert _fate(model, f"{LAYER}bias", torch.ones(8)) == "refused"
    assert _fate(model, f"{LAYER}masked_bias", torch.tensor(-1e9)) == "derived"
    assert _fate(model, f"{LAYER}masked_bias", torch.tensor(0.5)) == "refused"


def test_positions_count_from_zero(model: Any) -> None:
    assert _fate(model, "model.position_ids", torch.arange(8)[None]) == "derived"
    assert _fate(model, "model.position_ids", torch.arange(8)[None] + 1) == "refused"


def test_one_weight_under_two_names_is_a_copy_or_refused(model: Any) -> None:
    weight = torch.ones(64)
    assert _judged(model, **{"model.norm.weight": weight, "norm.weight": weight.clone()}) == {
        "model.norm.weight": "used",
        "norm.weight": "derived",
    }
    assert _judged(model, **{"model.norm.weight": weight, "norm.weight": weight * 2})["norm.weight"] == "refused"


def test_float8_codes_without_scales_are_refused_and_plain_numbers_taken(model: Any) -> None:
    weight = torch.linspace(-1, 1, 64)
    assert _fate(model, "model.norm.weight", weight.to(torch.float8_e4m3fn)) == "used"
    assert _fate(model, "model.norm.weight", (weight * 448).to(torch.float8_e4m3fn)) == "refused"


def test_two_tensors_where_the_configuration_ties_them_are_told(model: Any) -> None:
    assert check_derived(Account(), model, {}, {}).notes() == ()
    untied = random_model(llama_config(layers=1, tied=False))
    untied.config.tie_word_embeddings = True
    assert "both are used" in check_derived(Account(), untied, {}, {}).notes()[0]


def test_a_stored_copy_of_a_tied_weight_is_derived(model: Any) -> None:
    weight = model.model.embed_tokens.weight
    names = {"model.embed_tokens.weight": weight, "lm_head.weight": weight.clone()}
    assert model.lm_head.weight is weight
    assert _judged(model, **names) == {"model.embed_tokens.weight": "used", "lm_head.weight": "derived"}
