from __future__ import annotations

from jisu.exporter.sources.module_kind import is_of_transformers, word_embedding
from tests.support.models import llama_config, random_model
from tests.support.own_modules import Recurrent


def test_models_of_transformers_are_told_from_others():
    assert is_of_transformers(random_model(llama_config(layers=1)))
    assert not is_of_transformers(Recurrent())


def test_a_parameter_is_no_table_of_tokens(monkeypatch):
    """Perceiver's latents, which its `get_input_embeddings` gives."""
    model = random_model(llama_config())
    assert word_embedding(model) is model.get_input_embeddings()
    monkeypatch.setattr(model, "get_input_embeddings", lambda: model.lm_head.weight)
    assert word_embedding(model) is None
