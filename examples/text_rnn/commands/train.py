"""Prepared data -> a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

from jisu import InputError
from jisu.networks import NETWORKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="what prepare wrote")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a new folder for the model")
    parser.add_argument("--network", choices=NETWORKS, default="lstm")
    parser.add_argument("--embeddings", type=Path, metavar="FILE", help="word vectors: a GloVe or word2vec text file")
    parser.add_argument("--freeze-embeddings", action="store_true", help="leave these as they are")
    parser.add_argument("--embedding-size", type=int, metavar="N", help="numbers per word (128, or the file's)")
    parser.add_argument("--hidden-size", type=int, default=256, metavar="N")
    parser.add_argument("--layers", type=int, default=1, metavar="N")
    parser.add_argument("--heads", type=int, default=4, metavar="N", help="for a transformer")
    parser.add_argument("--context", type=int, default=4, metavar="N", help="words that an ngram sees")
    parser.add_argument("--dropout", type=float, default=0.1, metavar="P")
    parser.add_argument("--loss", choices=("cross-entropy", "mse"), default="cross-entropy")
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--rate", type=float, metavar="R", help="learning rate (0.002 for adam, 0.5 for sgd)")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="at most")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--patience", type=int, default=3, metavar="N", help="stop after N epochs without a better one")
    parser.add_argument("--longest", type=int, default=64, metavar="N", help="words of a text; the rest is cut off")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted training in --out")


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.prepared_data import TOKENIZER, TRAIN, read_examples, read_preparation
    from examples.text_rnn.training import TrainingSettings
    from examples.text_rnn.training import train as train_model
    from examples.text_rnn.vocabulary import read_tokenizer
    from examples.text_rnn.word_vectors import coverage_of, read_vectors, vector_size
    from jisu.networks import ModelSettings

    training = TrainingSettings(
        loss=arguments.loss,
        optimizer=arguments.optimizer,
        rate=arguments.rate,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        patience=arguments.patience,
        longest=arguments.longest,
        freeze_embeddings=arguments.freeze_embeddings,
        seed=arguments.seed,
        threads=arguments.threads,
    )
    preparation = read_preparation(arguments.data)
    vocabulary = read_tokenizer(arguments.data / TOKENIZER).get_vocab()
    examples = read_examples(arguments.data, TRAIN, longest=arguments.longest)
    vectors = None
    if arguments.embeddings is not None:
        vectors = read_vectors(arguments.embeddings, vocabulary, size=arguments.embedding_size)
        print(f"{arguments.embeddings}: {coverage_of(vectors, vocabulary, examples.token_ids)}")
    elif arguments.freeze_embeddings:
        raise InputError(
            "There are no word vectors to leave as they are",
            received="--freeze-embeddings without --embeddings",
            allowed="both, or neither",
            fix="Give a file of word vectors.",
        )
    size = vector_size(vectors) if vectors is not None else arguments.embedding_size
    settings = ModelSettings(
        network=arguments.network,
        vocab_size=len(vocabulary),
        embedding_size=128 if size is None else size,
        hidden_size=arguments.hidden_size,
        layers=arguments.layers,
        heads=arguments.heads,
        context=arguments.context,
        dropout=arguments.dropout,
    )
    progress = train_model(
        arguments.out,
        arguments.data,
        examples,
        model=settings,
        training=training,
        preparation=preparation,
        vectors=vectors,
        vocabulary=vocabulary,
        resume=arguments.resume,
    )
    print(f"{arguments.out}: the weights of epoch {progress.best_epoch}, validation loss {progress.best_loss:.4f}")
