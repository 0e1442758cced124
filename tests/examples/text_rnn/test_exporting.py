"""Every network, trained for a moment, becomes an engine that the gate accepts and that answers as the model does."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from examples.text_rnn.asking import continue_text, probabilities_of
from examples.text_rnn.csv_table import read_table
from examples.text_rnn.engines import open_engine
from examples.text_rnn.exporting import export_model, prepared_text
from examples.text_rnn.prepared_data import read_examples, read_preparation, token_ids
from examples.text_rnn.speed import loop
from examples.text_rnn.trained_model import TrainedModel, read_model
from examples.text_rnn.training import TrainingSettings, train
from examples.text_rnn.vocabulary import read_tokenizer
from jisu.exporter.models.settings import NETWORKS
from jisu.runtimes import SamplingOptions
from tests.examples.text_rnn.small_data import prepare, sizes

# Every network in float32; each other precision with one network that has a recurrent state and one that has not.
WRITERS = [*((network, "fp32") for network in NETWORKS), ("lstm", "int8"), ("transformer", "int8"), ("gru", "fp16")]
JUDGES = [*((network, "fp32") for network in NETWORKS), ("lstm", "int8"), ("transformer", "fp16")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "data"
    prepare(folder, texts=80)
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews") / "data"
    prepare(folder, task="classify", texts=400)
    return folder


def trained(folder: Path, data: Path, network: str) -> TrainedModel:
    vocab_size = read_tokenizer(data / "tokenizer.json").get_vocab_size()
    train(
        folder,
        data,
        read_examples(data, "train.csv", longest=64),
        model=sizes(network, vocab_size, embedding_size=32, hidden_size=64),
        training=TrainingSettings(epochs=6, rate=0.004, batch_size=8),
        preparation=read_preparation(data),
        say=lambda line: None,
    )
    return read_model(folder)


@pytest.fixture(scope="module")
def writers(texts, tmp_path_factory):
    """Trained language models by their network, each trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("writers")
    return functools.cache(lambda network: trained(folder / network, texts, network))


@pytest.fixture(scope="module")
def judges(reviews, tmp_path_factory):
    """Trained classifiers by their network, each trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("judges")
    return functools.cache(lambda network: trained(folder / network, reviews, network))


@pytest.mark.parametrize(("network", "precision"), WRITERS)
def test_language_model_answers_on_every_backend(writers, texts, tmp_path, network, precision):
    model = writers(network)
    artifact = export_model(model, texts, tmp_path / "engine", target="ort-cpu", precision=precision)
    assert artifact.manifest.gate["accepted"]
    prompt = model.tokenizer.encode(model.preparation.preprocessing.prepare("今天妈妈")).ids
    for backend in ("ort-cpu", "torch"):
        with open_engine(artifact.folder, backend, model) as engine:
            actual = engine.generate_ids([prompt], max_new_tokens=12, ignore_eos=True)[0].token_ids
            pieces = continue_text(engine, "今天妈妈", model.preparation, SamplingOptions(max_new_tokens=12))
            text = "".join(pieces)
        if precision == "fp32" or backend == "torch":
            assert list(actual) == loop(model.module, prompt, 12)
        assert text.startswith("今天妈妈") and " " not in text


@pytest.mark.parametrize(("network", "precision"), JUDGES)
def test_classifier_tells_texts_apart_on_every_backend(judges, reviews, tmp_path, network, precision):
    classifier = judges(network)
    artifact = export_model(classifier, reviews, tmp_path / "engine", target="ort-cpu", precision=precision)
    assert artifact.manifest.gate["accepted"]
    table = read_table(reviews / "test.csv", label="label")
    ids = [token_ids(text, classifier.tokenizer, classifier.preparation) for text in table.texts]
    with torch.inference_mode():
        expected = [classifier.module(torch.tensor([row])).softmax(1)[0].tolist() for row in ids]
    for backend in ("ort-cpu", "torch"):
        with open_engine(artifact.folder, backend, classifier) as engine:
            actual = [probabilities_of(engine, text, classifier.preparation) for text in table.texts]
        # Rounded weights move a probability by a few hundredths at most; float32 by rounding alone.
        atol = 1e-5 if precision == "fp32" or backend == "torch" else 0.05
        for probabilities, reference in zip(actual, expected, strict=True):
            assert [probabilities[label] for label in classifier.module.labels] == pytest.approx(reference, abs=atol)
        right = sum(max(row, key=row.get) == label for row, label in zip(actual, table.labels, strict=True))
        assert right >= 0.65 * len(actual), "better than chance after a moment of training"


def test_short_texts_are_repeated_to_fill_a_window(texts, tmp_path):
    text = prepared_text(texts / "test.csv", read_preparation(texts))
    assert len(text.split()) >= 1024
    assert text.splitlines()[0].startswith("<bos> ") and text.splitlines()[0].endswith(" <eos>")
