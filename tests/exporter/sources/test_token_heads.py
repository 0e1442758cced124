"""Which head a configuration names, by transformers' own tables."""

from __future__ import annotations

import pytest

from jisu.exporter.sources.token_heads import head_of_class, token_head
from tests.support.models import classifier_config, text_to_text_config


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("BertForTokenClassification", "token-classification"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertForQuestionAnswering", "question-answering"),
    ],
)
def test_the_architecture_names_the_head(architecture, kind):
    import transformers

    model_class = getattr(transformers, architecture)
    assert token_head(classifier_config("Bert", architectures=[architecture])) == (kind, model_class)
    assert head_of_class(model_class) == kind


def test_no_other_architecture_names_one():
    for architecture in ("BertModel", "BertForSequenceClassification", "RobertaForMaskedLM", "ForMaskedLM"):
        assert token_head(classifier_config("Bert", architectures=[architecture])) is None
    assert token_head(classifier_config("Bert", architectures=None)) is None


def test_what_writes_texts_has_no_masks():
    assert token_head(classifier_config("Bert", architectures=["BertForMaskedLM"], is_decoder=True)) is None
    config = text_to_text_config()
    config.architectures = ["BartForConditionalGeneration"]
    assert token_head(config) is None
