"""Measures a trained model on the test data."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    parser.add_argument("--data", required=True, type=Path, metavar="DATA", help="what prepare wrote")


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.evaluation import evaluate as measure
    from examples.text_rnn.prepared_data import TEST, read_examples
    from examples.text_rnn.trained_model import check_same_vocabulary, read_model

    model = read_model(arguments.model)
    check_same_vocabulary(model, arguments.data)
    examples = read_examples(arguments.data, TEST, longest=model.record["longest"])
    print(measure(model.module, examples, model.preparation.labels))
