from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.rotary_keys import judge_rotary

pytest.importorskip("transformers", reason="the kinds of rotary positions are transformers'")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


class _Config:
    def __init__(self, rope_parameters: Any) -> None:
        self.rope_parameters = rope_parameters


def _fates(stated: dict[str, Any], made: dict[str, Any] | None = None, **top: Any) -> dict[str, str]:
    config = _Config(made if made is not None else {"rope_theta": 10000.0, "rope_type": "default", **stated})
    account = judge_rotary(Account(), {"rope_scaling": stated, **top}, config, {"rope_theta"})
    return {one.name.removeprefix("rope_scaling."): one.fate for one in account.statements}


def test_what_a_kind_reads_is_used() -> None:
    assert set(_fates({**YARN, "beta_fast": 32, "mscale": 0.7}).values()) == {"used"}
    assert set(_fates({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}).values()) == {"used"}
    assert _fates({**YARN, "finetuned": True})["finetuned"] == "harmless"


def test_what_a_kind_does_not_read_is_told_or_refused() -> None:
    assert _fates({"rope_type": "default", "mrope_section": [2, 3, 3]})["mrope_section"] == "unread"
    assert _fates({"rope_type": "default", "factor": 4.0})["factor"] == "refused"
    assert _fates({"rope_type": "default", "factor": 1.0})["factor"] == "harmless"
    assert _fates({"rope_type": "default", "partial_rotary_factor": 0.5})["partial_rotary_factor"] == "unread"
    assert _fates({**YARN, "ntk_alpha": 16})["ntk_alpha"] == "refused"
    assert _fates({**YARN, "beta_fasd": 16})["beta_fasd"] == "refused"


def test_settings_that_contradict_what_was_made_are_refused() -> None:
    assert _fates(YARN, {**YARN, "factor": 8.0})["factor"] == "refused"
    assert _fates({"type": "linear", "rope_type": "dynamic", "factor": 2.0})["type"] == "refused"
    assert _fates({"type": "mrope", "rope_type": "default"})["type"] == "used"
    assert _fates({}, {"rope_type": "default", "rope_theta": 10000.0}, rope_theta=5e5)["rope_theta"] == "refused"
    assert "rope_theta" not in _fates({}, {"rope_type": "default", "rope_theta": 5e5}, rope_theta=5e5)


def test_settings_of_each_kind_of_layer_are_read() -> None:
    made = {"full_attention": {**YARN, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default"}}
    fates = _fates(made, made, rope_theta=1e6)
    assert fates["full_attention.factor"] == "used"
    assert set(fates.values()) == {"used"}


def test_rotary_settings_of_a_model_without_rotary_positions_are_refused() -> None:
    account = judge_rotary(Account(), {"rope_scaling": YARN}, object(), set())
    assert account.names("refused") == ["rope_scaling"]
