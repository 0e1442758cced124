from __future__ import annotations

from types import SimpleNamespace

import pytest

from jisu.exporter.sources.token_types import reads_types
from tests.support.models import classifier_config, random_model


@pytest.mark.parametrize(
    ("family", "count", "names", "reads"),
    [
        ("Bert", 2, ["input_ids", "token_type_ids"], True),
        ("Bert", 2, ["input_ids", "attention_mask"], False),  # a tokenizer that gives none
        ("Bert", 1, ["input_ids", "token_type_ids"], False),
        ("Roberta", 1, ["input_ids", "token_type_ids"], False),
        ("DistilBert", None, ["input_ids", "token_type_ids"], False),  # a forward that takes none
    ],
)
def test_types_need_a_model_and_a_tokenizer_that_have_them(family, count, names, reads):
    changes = {} if count is None else {"type_vocab_size": count}
    model = random_model(classifier_config(family, **changes), classifies=True)
    assert reads_types(model, SimpleNamespace(model_input_names=names)) is reads
    assert reads_types(model, None) is (count == 2)


def test_other_modules_have_none():
    from torch import nn

    assert reads_types(nn.Linear(2, 2), None) is False
