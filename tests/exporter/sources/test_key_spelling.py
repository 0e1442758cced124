from __future__ import annotations

import pytest

from jisu.exporter.sources.key_spelling import nearest_key

KNOWN = ("max_position_embeddings", "rope_theta", "n_head", "hidden_act", "bias")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_position_embeddingz", "max_position_embeddings"),
        ("maxposition_embeddings", "max_position_embeddings"),
        ("max_positoin_embeddings", "max_position_embeddings"),
        ("Rope_Theta", "rope_theta"),
        ("rope_thetaxx", "rope_theta"),
        ("n_heaf", "n_head"),
        ("baas", "bias"),
        ("baaz", None),
        ("n_hhexyd", None),
        ("rope_scaling", None),
        ("hidden_dim", None),
        ("b", None),
    ],
)
def test_a_key_is_near_within_one_edit_or_two_of_a_long_one(key: str, meant: str | None) -> None:
    assert nearest_key(key, KNOWN) == meant


def test_the_nearest_of_several_is_meant() -> None:
    assert nearest_key("num_layersz", ["num_layers", "num_layer"]) == "num_layers"
    assert nearest_key("anything", []) is None
