"""Every network, trained for a moment, becomes an engine that the gate accepts and that answers as the model does."""

from __future__ import annotations

import pytest

from examples.text_rnn.asking import continue_text
from examples.text_rnn.engines import open_engine
from examples.text_rnn.exporting import export_model, prepared_text
from examples.text_rnn.prepared_data import read_examples, read_preparation
from examples.text_rnn.speed import loop
from examples.text_rnn.trained_model import TrainedModel, read_model
from examples.text_rnn.training import TrainingSettings, train
from examples.text_rnn.vocabulary import read_tokenizer
from exporter.models.settings import NETWORKS
from runtimes import SamplingOptions
from tests.examples.text_rnn.small_data import prepare, sizes

PRECISIONS = ("fp32", "int8", "fp16")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "data"
    prepare(folder, texts=80)
    return folder


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, texts, tmp_path_factory) -> TrainedModel:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    vocab_size = read_tokenizer(texts / "tokenizer.json").get_vocab_size()
    train(
        folder,
        texts,
        read_examples(texts, "train.csv", longest=64),
        model=sizes(request.param, vocab_size, embedding_size=32, hidden_size=64),
        training=TrainingSettings(epochs=6, rate=0.01, batch_size=8),
        preparation=read_preparation(texts),
        say=lambda line: None,
    )
    return read_model(folder)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_language_model_answers_on_every_backend(model, texts, tmp_path, precision):
    artifact = export_model(model, texts, tmp_path / "engine", target="ort-cpu", precision=precision)
    assert artifact.manifest.gate["accepted"]
    prompt = model.tokenizer.encode(model.preparation.preprocessing.prepare("今天妈妈")).ids
    for backend in ("ort-cpu", "torch"):
        with open_engine(artifact.folder, backend, model) as engine:
            found = engine.generate_ids([prompt], max_new_tokens=12, ignore_eos=True)[0].token_ids
            pieces = continue_text(engine, "今天妈妈", model.preparation, SamplingOptions(max_new_tokens=12))
            text = "".join(pieces)
        if precision == "fp32" or backend == "torch":
            assert list(found) == loop(model.module, prompt, 12)
        assert text.startswith("今天妈妈") and " " not in text


def test_short_texts_are_repeated_to_fill_a_window(texts, tmp_path):
    text = prepared_text(texts / "test.csv", read_preparation(texts))
    assert len(text.split()) >= 1024
    assert text.splitlines()[0].startswith("<bos> ") and text.splitlines()[0].endswith(" <eos>")
