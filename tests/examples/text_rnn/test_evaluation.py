from __future__ import annotations

import math

import pytest
import torch

from examples.text_rnn.evaluation import ClassifierQuality, display_width, evaluate, mean_loss
from examples.text_rnn.prepared_data import Examples
from jisu.exporter.models.classifier import Classifier
from jisu.exporter.models.language_model import LanguageModel
from jisu.exporter.models.settings import ModelSettings

SIZES = {"network": "lstm", "vocab_size": 8, "embedding_size": 4, "hidden_size": 4}


def test_model_without_a_preference_has_the_perplexity_of_its_vocabulary():
    model = LanguageModel(ModelSettings(**SIZES))
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    quality = evaluate(model, Examples(token_ids=((2, 4, 5, 3), (2, 6, 3)), label_ids=None), ())
    assert quality.tokens == 5
    assert quality.loss == pytest.approx(math.log(8), rel=1e-6)
    assert quality.perplexity == pytest.approx(8, rel=1e-5)


def test_loss_does_not_depend_on_how_texts_are_batched():
    torch.manual_seed(1)
    model = LanguageModel(ModelSettings(**SIZES))
    examples = Examples(token_ids=((2, 4, 5, 6, 7, 3), (2, 6, 3), (2, 3)), label_ids=None)
    losses = [mean_loss(model, examples, loss="cross-entropy", batch_size=size) for size in (1, 2, 3)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_confusion_matrix_counts_what_was_taken_for_what():
    model = Classifier(ModelSettings(**SIZES), ["a", "b"])
    torch.nn.init.zeros_(model.output.weight)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 1.0]))  # always b
    quality = evaluate(model, Examples(token_ids=((2, 4), (2, 5), (2, 6)), label_ids=(0, 1, 1)), model.labels)
    assert quality.confusion == ((0, 1), (0, 2))
    assert quality.accuracy == pytest.approx(2 / 3)


def test_table_lines_up_chinese_labels():
    quality = ClassifierQuality(loss=0.5, labels=("好评", "差评"), confusion=((148, 2), (1, 9)))
    lines = quality.table().splitlines()
    assert display_width(lines[1][: lines[1].index("148")]) == display_width(lines[0][: lines[0].index("好评")])
    assert "2" in lines[1] and "9" in lines[2]
