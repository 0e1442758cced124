"""Trains word vectors on the prepared texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from jisu import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="what prepare wrote")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a word2vec text file")
    parser.add_argument("--size", type=int, default=128, metavar="N", help="numbers per word")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.csv_table import read_table
    from examples.text_rnn.new_folder import check_new
    from examples.text_rnn.prepared_data import TOKENIZER, TRAIN, read_preparation, token_ids
    from examples.text_rnn.vocabulary import SPECIALS, read_tokenizer
    from examples.text_rnn.word_vectors import train_vectors

    preparation, tokenizer = read_preparation(arguments.data), read_tokenizer(arguments.data / TOKENIZER)
    check_new(arguments.out)
    if arguments.size < 1:
        raise InputError("Word vectors need a size", received=arguments.size, allowed="1 or more", fix="Change --size.")
    names = {index: word for word, index in tokenizer.get_vocab().items()}
    words = [
        [names[index] for index in token_ids(text, tokenizer, preparation) if index >= len(SPECIALS)]
        for text in read_table(arguments.data / TRAIN).texts
    ]
    count = train_vectors(words, arguments.out, size=arguments.size, seed=arguments.seed)
    print(f"{arguments.out}: {count} words of {arguments.size} numbers")
