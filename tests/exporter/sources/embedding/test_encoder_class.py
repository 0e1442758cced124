"""Which class gives the states of a text's tokens, and when a configuration names one."""

from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.encoder_class import encoder_class, names_encoder
from tests.support.models import classifier_config, text_to_text_config


def test_an_encoder_has_no_pooler(tmp_path):
    empty = encoder_class(classifier_config("Bert"), tmp_path)(classifier_config("Bert"))
    assert not [name for name, _ in empty.named_parameters() if name.startswith("pooler")]


def test_of_an_encoder_and_a_decoder_the_encoder_is_taken(tmp_path):
    from transformers import T5Config

    config = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=32)
    assert encoder_class(config, tmp_path).__name__ == "T5EncoderModel"


def test_a_pair_without_a_class_for_its_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no encoder of text"):
        encoder_class(text_to_text_config(), tmp_path)


@pytest.mark.parametrize(
    ("architectures", "names"), [(["BertModel"], True), (["BertForMaskedLM"], False), (None, False)]
)
def test_a_configuration_names_its_class(architectures, names):
    assert names_encoder(classifier_config("Bert", architectures=architectures)) is names
