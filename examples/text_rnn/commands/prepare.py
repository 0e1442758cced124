"""Texts -> words and a vocabulary."""

from __future__ import annotations

import argparse
from pathlib import Path

from jisu import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", required=True, choices=("zh", "en"))
    parser.add_argument("--task", required=True, choices=("generate", "classify"))
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a new folder for the prepared data")
    parser.add_argument("--train", type=Path, metavar="CSV", help="your own texts; without it the example makes some")
    parser.add_argument("--test", type=Path, metavar="CSV", help="texts to test with; goes with --train")
    parser.add_argument("--text-column", default="text", metavar="NAME")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="for --task classify")
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of the CSV files, such as gb18030")
    parser.add_argument("--keep-case", action="store_true", help="do not write every letter small")
    parser.add_argument("--remove-stop-words", action="store_true", help="leave out very common words")
    parser.add_argument("--drop-punctuation", action="store_true", help="leave out marks of punctuation")
    parser.add_argument("--min-count", type=int, default=1, metavar="N", help="rarer words become <unk>")
    parser.add_argument("--max-words", type=int, metavar="N", help="keep the N most frequent words")


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.csv_table import read_table
    from examples.text_rnn.new_folder import check_new
    from examples.text_rnn.prepared_data import TOKENIZER, own_tables, write_preparation
    from examples.text_rnn.preprocessing import Preprocessing
    from examples.text_rnn.vocabulary import read_tokenizer

    check_new(arguments.out)
    if (arguments.train is None) != (arguments.test is None):
        raise InputError(
            "Own texts come in two files",
            received="only one of --train and --test",
            allowed="both, or neither for the texts that the example makes",
            fix="Give the other file too.",
        )
    if arguments.train is None:
        train, test = own_tables(arguments.task, arguments.language)
    else:
        label = arguments.label_column if arguments.task == "classify" else None
        train, test = (
            read_table(path, text=arguments.text_column, label=label, encoding=arguments.encoding)
            for path in (arguments.train, arguments.test)
        )
    preparation = write_preparation(
        arguments.out,
        train,
        test,
        task=arguments.task,
        preprocessing=Preprocessing(
            language=arguments.language,
            lower=not arguments.keep_case,
            remove_stop_words=arguments.remove_stop_words,
            punctuation="drop" if arguments.drop_punctuation else "keep",
        ),
        min_count=arguments.min_count,
        max_words=arguments.max_words,
    )
    words = read_tokenizer(arguments.out / TOKENIZER).get_vocab_size()
    labels = f", labels {', '.join(preparation.labels)}" if preparation.labels else ""
    print(f"{arguments.out}: {len(train.texts)} texts to train on, {len(test.texts)} to test, {words} words{labels}")
