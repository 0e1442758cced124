"""Training learns, stops in time, and goes on after a break as if there had been none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from examples.text_rnn.checkpoint import CHECKPOINT
from examples.text_rnn.evaluation import evaluate
from examples.text_rnn.prepared_data import read_examples, read_preparation
from examples.text_rnn.trained_model import check_same_vocabulary, read_model
from examples.text_rnn.training import TrainingSettings, train
from examples.text_rnn.vocabulary import read_tokenizer
from jisu.exporter.contract.errors import InputError
from jisu.exporter.models.settings import NETWORKS
from tests.examples.text_rnn.small_data import prepare, prepare_plain_reviews, sizes

FAST = TrainingSettings(epochs=4, patience=9, batch_size=8)


def run(out, data, *, network="lstm", training=FAST, **options):
    vocabulary = read_tokenizer(data / "tokenizer.json").get_vocab()
    return train(
        out,
        data,
        read_examples(data, "train.csv", longest=training.longest),
        model=sizes(network, len(vocabulary)),
        training=training,
        preparation=read_preparation(data),
        vocabulary=vocabulary,
        say=lambda line: None,
        **options,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "data"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews") / "data"
    prepare(folder, task="classify", texts=400)
    return folder


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns_to_write(texts, tmp_path, network):
    history = run(tmp_path / "model", texts, network=network, training=replace(FAST, rate=0.01)).history
    assert history[-1][0] < 0.9 * history[0][0]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns_to_tell_texts_apart(tmp_path, network):
    data = tmp_path / "data"
    prepare_plain_reviews(data)
    run(tmp_path / "model", data, network=network, training=replace(FAST, rate=0.01))
    model = read_model(tmp_path / "model")
    quality = evaluate(model.module, read_examples(data, "test.csv", longest=64), model.preparation.labels)
    # Every network tells all of them apart with every seed tried; guessing gives 0.5.
    assert quality.accuracy >= 0.8


@pytest.mark.parametrize(("loss", "optimizer"), [("mse", "adam"), ("cross-entropy", "sgd"), ("mse", "sgd")])
def test_each_loss_and_optimizer_makes_its_loss_smaller(reviews, tmp_path, loss, optimizer):
    training = replace(FAST, loss=loss, optimizer=optimizer, rate=None, epochs=6)
    history = run(tmp_path / "model", reviews, training=replace(training)).history
    assert min(after for after, _ in history[1:]) < history[0][0]


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_resumed_training_equals_an_uninterrupted_one(texts, tmp_path, network):
    whole = run(tmp_path / "whole", texts, network=network)
    run(tmp_path / "parts", texts, network=network, training=replace(FAST, epochs=1))
    parts = run(tmp_path / "parts", texts, network=network, resume=True)
    assert parts.history == whole.history
    for name, tensor in whole.weights.items():
        assert torch.equal(tensor, parts.weights[name]), name
    kept = [load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_training_killed_within_an_epoch_goes_on_from_the_one_before(texts, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", texts)
    from examples.text_rnn import training as module

    real, calls = module.loss_of, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) > 10:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", texts)
    monkeypatch.undo()
    with pytest.raises(InputError, match="no trained model"):
        read_model(tmp_path / "killed")
    assert run(tmp_path / "killed", texts, resume=True).history == whole.history


def test_other_seed_gives_another_model(texts, tmp_path):
    one = run(tmp_path / "one", texts, training=replace(FAST, epochs=1))
    other = run(tmp_path / "other", texts, training=replace(FAST, epochs=1, seed=1))
    assert one.history != other.history


def test_training_stops_when_the_validation_loss_no_longer_falls(texts, tmp_path):
    # A rate of almost nothing: rounding alone cannot make every epoch better.
    progress = run(tmp_path / "model", texts, training=replace(FAST, epochs=50, patience=2, rate=1e-30))
    assert progress.epoch - progress.best_epoch == 2
    assert progress.epoch < 50


def test_word_vectors_are_taken_over_and_can_be_frozen(texts, tmp_path):
    vocabulary = read_tokenizer(texts / "tokenizer.json").get_vocab()
    words = [word for word in vocabulary if not word.startswith("<")][:5]
    vectors = {word: np.full(16, place, np.float32) for place, word in enumerate(words)}
    run(tmp_path / "model", texts, training=replace(FAST, epochs=1, freeze_embeddings=True), vectors=vectors)
    weight = read_model(tmp_path / "model").module.embedding.weight
    for word, vector in vectors.items():
        np.testing.assert_array_equal(weight[vocabulary[word]].detach().numpy(), vector)
    assert torch.count_nonzero(weight[0]) == 0


@pytest.mark.parametrize("change", ["seed", "network", "data"])
def test_checkpoint_of_another_training_is_refused(texts, tmp_path, change):
    run(tmp_path / "model", texts, training=replace(FAST, epochs=1))
    before = (tmp_path / "model" / CHECKPOINT).read_bytes()
    other = tmp_path / "data"
    prepare(other, texts=44)
    with pytest.raises(InputError, match="of another training"):
        run(
            tmp_path / "model",
            other if change == "data" else texts,
            network="gru" if change == "network" else "lstm",
            training=replace(FAST, seed=1 if change == "seed" else 0),
            resume=True,
        )
    assert (tmp_path / "model" / CHECKPOINT).read_bytes() == before


def test_bad_beginnings_write_nothing(texts, tmp_path):
    with pytest.raises(InputError, match="no training to resume"):
        run(tmp_path / "model", texts, resume=True)
    assert not (tmp_path / "model").exists()
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path / "taken", texts)
    with pytest.raises(InputError, match=r"loss 'hinge', optimizer 'lion'"):
        TrainingSettings(loss="hinge", optimizer="lion")
    with pytest.raises(InputError, match="diverged"):
        run(tmp_path / "diverged", texts, training=replace(FAST, optimizer="sgd", rate=1e38))
    assert not (tmp_path / "diverged").exists()


def test_damaged_checkpoint_is_refused(texts, tmp_path):
    run(tmp_path / "model", texts, training=replace(FAST, epochs=1))
    (tmp_path / "model" / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="no training to resume"):
        run(tmp_path / "model", texts, resume=True)


def test_other_vocabulary_is_noticed(texts, reviews, tmp_path):
    run(tmp_path / "model", texts, training=replace(FAST, epochs=1))
    check_same_vocabulary(read_model(tmp_path / "model"), texts)
    with pytest.raises(InputError, match="vocabularies differ"):
        check_same_vocabulary(read_model(tmp_path / "model"), reviews)
    (tmp_path / "model" / "tokenizer.json").write_bytes((reviews / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="not the one that the model was trained with"):
        read_model(tmp_path / "model")


def test_full_disk_is_one_sentence(texts, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # what is longer meets the errors of a full disk
    try:
        with pytest.raises(InputError, match="cannot be written") as caught:
            run(tmp_path / "model", texts, training=replace(FAST, epochs=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "--resume" in str(caught.value)
    assert not list((tmp_path / "model").glob("*.partial"))
