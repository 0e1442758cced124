from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.classifier import classifier_class, read_activation, read_labels
from tests.support.models import LABELS, classifier_config, write_tiny_classifier


def test_a_folder_is_loaded_with_its_labels(tiny_classifier_source):
    source = load_source(tiny_classifier_source)
    assert source.model_kind == "text-classification"
    assert source.model.labels == LABELS
    assert (source.model.pad, source.model.layers, source.model.max_positions) == (2, 3, 512)


def test_an_outline_knows_the_labels_too(tiny_classifier_source):
    assert load_source(tiny_classifier_source, outline=True).model == load_source(tiny_classifier_source).model


def test_positions_behind_that_of_padding_are_left_for_tokens(tmp_path):
    source = load_source(write_tiny_classifier(tmp_path / "source", "Roberta", max_position_embeddings=515))
    assert source.model.max_positions == 512  # 515, less those of ids up to padding, which is 2


def test_the_architecture_decides_not_the_type():
    config = classifier_config()
    assert classifier_class(config) is None
    config.architectures = ["BertForMaskedLM"]
    assert classifier_class(config) is None
    config.architectures = ["BertForSequenceClassification"]
    assert classifier_class(config).__name__ == "BertForSequenceClassification"


@pytest.mark.parametrize(
    ("labels", "least", "message"),
    [
        (("score",), 2, "id2label with 1 label. Allowed: 2 labels or more"),
        (("yes", "no", "yes"), 1, "the label 'yes' more than once"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, least, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_labels(classifier_config(labels=labels), tmp_path, least=least)


@pytest.mark.parametrize(
    ("labels", "stated", "activation"),
    [
        (3, {}, "softmax"),
        (1, {}, "sigmoid"),
        (3, {"problem_type": "multi_label_classification"}, "sigmoid"),
        (3, {"problem_type": "single_label_classification"}, "softmax"),
        (1, {"problem_type": "regression"}, "none"),
        (2, {"problem_type": "regression"}, "none"),
        (1, {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        (1, {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_what_becomes_of_logits_is_what_transformers_makes_of_them(labels, stated, activation, tmp_path):
    config = classifier_config(labels=tuple(map(str, range(labels))), **stated)
    assert read_activation(config, tmp_path, labels=labels) == activation


def test_a_cross_encoder_says_so_in_a_file_of_its_own(tmp_path):
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({"activation_fn": "torch.nn.modules.linear.Identity"}))
    assert read_activation(classifier_config(), tmp_path, labels=1) == "none"
    for function in ("torch.nn.modules.activation.Tanh", "torch.nn.modules.activation.Softmax", "my.Sigmoid2"):
        path.write_text(json.dumps({"activation_fn": function}))
        with pytest.raises(InputError, match=f"What the scores of .* are is not understood. Received: .*{function}"):
            read_activation(classifier_config(), tmp_path, labels=1)


@pytest.mark.parametrize(("problem", "word"), [("guessing", "'guessing'"), (["regression"], r"\['regression'\]")])
def test_a_problem_that_is_not_known_is_refused(problem, word, tmp_path):
    config = SimpleNamespace(problem_type=problem)
    with pytest.raises(InputError, match=f"Received: problem_type {word}.*single_label_classification"):
        read_activation(config, tmp_path, labels=2)


def test_ids_with_a_gap_are_refused(tmp_path):
    config = classifier_config()
    config.id2label = {0: "no", 2: "yes"}
    with pytest.raises(InputError, match=r"id2label with ids \[0, 2\]"):
        read_labels(config, tmp_path)


def test_a_folder_whose_config_names_too_few_labels_is_refused(tmp_path):
    folder = write_tiny_classifier(tmp_path / "source")
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"classifier.weight is \[3, 64\] instead of \[2, 64\]"):
        load_source(folder)
