from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.classifier import classifier_class, read_labels
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
    ("changes", "message"),
    [
        ({"labels": ("score",)}, "id2label with 1 label. Allowed: two labels or more"),
        ({"labels": ("yes", "no", "yes")}, "the label 'yes' more than once"),
        ({"problem_type": "regression"}, "does not give one label to a text. Received: problem_type 'regression'"),
        ({"problem_type": "multi_label_classification"}, "does not give one label to a text"),
    ],
)
def test_what_gives_no_one_label_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_labels(classifier_config(**changes), tmp_path)


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
