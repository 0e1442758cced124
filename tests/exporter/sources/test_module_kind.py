from __future__ import annotations

from jisu.exporter.sources.module_kind import is_of_transformers
from tests.support.models import llama_config, random_model
from tests.support.own_modules import Recurrent


def test_models_of_transformers_are_told_from_others():
    assert is_of_transformers(random_model(llama_config(layers=1)))
    assert not is_of_transformers(Recurrent())
