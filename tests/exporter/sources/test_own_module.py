from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import llama_config, random_model, tiny_tokenizer
from tests.support.own_modules import POSITIONS, VOCAB, Attentive, Recurrent, Stateless, seeded

FACTORY = "tests.support.own_modules:build_recurrent"


def test_a_module_and_its_factory_are_the_same_source():
    made, direct = load_source(FACTORY), load_source(seeded(Recurrent))
    assert made.model == direct.model
    assert made.provenance["files"] == direct.provenance["files"]
    assert (made.provenance["kind"], made.provenance["name"]) == ("factory", FACTORY)
    assert (direct.provenance["kind"], direct.provenance["name"]) == ("module", "Recurrent")


def test_what_a_module_shows_and_says_of_itself_becomes_facts():
    facts = load_source(seeded(Attentive), tokenizer=tiny_tokenizer()).model
    assert (facts.vocab_size, facts.max_positions, facts.layers) == (VOCAB, POSITIONS, 2)
    assert (facts.bos, facts.eos, facts.pad) == (0, (1,), 2)  # the tokenizer's
    stated = seeded(Recurrent)
    stated.eos_token_id, stated.pad_token_id, stated.max_positions = [5, 7], 9, 40
    facts = load_source(stated, tokenizer=tiny_tokenizer()).model
    assert (facts.max_positions, facts.bos, facts.eos, facts.pad) == (40, 0, (5, 7), 9)


def test_a_model_without_state_comes_with_a_word_on_what_that_costs():
    assert "every new token runs the whole text" in load_source(seeded(Stateless)).notes[0]
    assert load_source(seeded(Recurrent)).notes == ()


def test_a_module_goes_on_as_it_was():
    module = seeded(Recurrent).train()
    module.embedding.eval()
    load_source(module)
    assert (module.training, module.layers.training, module.embedding.training) == (True, True, False)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_model_of_transformers_is_taken_as_an_object():
    source = load_source(random_model(llama_config()), tokenizer=tiny_tokenizer())
    assert (source.model.architecture, source.model.eos) == ("LlamaForCausalLM", (1,))


def test_a_model_of_transformers_without_a_head_is_refused():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    with pytest.raises(InputError, match="Pass the class of the task"):
        load_source(BertModel(config))


WRONG_FACTORIES = {
    "tests.support.own_modules:build_nothing": "does not return a module. Received: NoneType",
    "tests.support.own_modules:build_wrong": "RuntimeError: the weights are elsewhere",
    "tests.support.own_modules:build_recurent": "Did you mean build_recurrent",
    "tests.support.own_modules:VOCAB": "Received: int",
    "tests.not_there:build": "ModuleNotFoundError",
}


@pytest.mark.parametrize("path", WRONG_FACTORIES)
def test_a_factory_that_cannot_be_used_is_refused_with_the_reason(path):
    with pytest.raises(InputError, match=WRONG_FACTORIES[path]):
        load_source(path)


def test_a_factory_in_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_own_factory.py").write_text("from tests.support.own_modules import build_recurrent as build\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert load_source("my_own_factory:build").model.vocab_size == VOCAB


def test_a_tokenizer_larger_than_the_embedding_is_refused():
    with pytest.raises(InputError, match="more ids than the model has rows"):
        load_source(seeded(Recurrent, vocab=100), tokenizer=tiny_tokenizer())


def test_a_tokenizer_beside_a_checkpoint_that_brings_its_own_is_refused(tmp_path):
    with pytest.raises(InputError, match="brings its own"):
        load_source(tmp_path, tokenizer=tiny_tokenizer())
    with pytest.raises(InputError, match="not a hub id"):
        load_source(seeded(Recurrent), revision="main")


class Wide(Recurrent):
    """More logits than rows in its embedding."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(48, VOCAB + 1)


def with_attributes(**attributes):
    module = seeded(Recurrent)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


REFUSED = {
    "predict tokens that its embedding does not have": Wide,
    "float16 on cpu": lambda: Recurrent().half(),
    "on meta": lambda: Recurrent().to("meta"),
    "Received: dict": dict,
    "eos_token_id of Recurrent does not name a token": lambda: with_attributes(eos_token_id=VOCAB),
    "max_positions of Recurrent is not a number": lambda: with_attributes(max_positions=-1),
}


@pytest.mark.parametrize("said", REFUSED)
def test_a_module_that_cannot_be_a_source_is_refused(said):
    with pytest.raises(InputError, match=said):
        load_source(REFUSED[said]())


def test_a_classifier_counts_its_embedding_and_names_its_columns():
    class Classifier(nn.Module):
        labels = ("no", "yes")

        def __init__(self, columns=2):
            super().__init__()
            self.embedding, self.output = nn.Embedding(VOCAB, 4), nn.Linear(4, columns)

        def forward(self, input_ids):
            return self.output(self.embedding(input_ids).mean(1))

    source = load_source(Classifier())
    assert (source.model_kind, source.model.vocab_size, source.model.labels) == (
        "text-classification",
        VOCAB,
        ("no", "yes"),
    )
    with pytest.raises(InputError, match="do not name its logits"):
        load_source(Classifier(columns=3))
    unnamed = Classifier(columns=3)
    unnamed.labels = None
    assert load_source(unnamed).model.labels == ("label_0", "label_1", "label_2")


def test_weights_are_neither_copied_nor_changed():
    module = seeded(Recurrent)
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    source = load_source(module)
    assert source.module is module
    assert all(torch.equal(before[name], parameter) for name, parameter in module.named_parameters())


def test_a_text_to_text_model_of_transformers_is_taken_as_an_object():
    from tests.support.models import text_to_text_config

    source = load_source(random_model(text_to_text_config()), tokenizer=tiny_tokenizer())
    assert (source.model_kind, source.model.decoder_start) == ("text2text-generation", 2)


def test_an_encoder_with_a_head_for_generation_is_refused_as_its_folder_is():
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)
    with pytest.raises(InputError, match="not a language model that can be exported"):
        load_source(BertLMHeadModel(config))
