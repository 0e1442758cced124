"""Compares engines with a PyTorch loop."""

from __future__ import annotations

import argparse
from pathlib import Path

from jisu import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    parser.add_argument(
        "--engine", required=True, type=Path, action="append", metavar="FOLDER", help="what export wrote"
    )
    parser.add_argument("--backend", default="ort-cpu", metavar="NAME")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the engine and of PyTorch")
    parser.add_argument("--data", type=Path, metavar="DATA", help="what prepare wrote; texts for a classifier")


def run(arguments: argparse.Namespace) -> None:
    from contextlib import ExitStack

    import torch

    from examples.text_rnn.csv_table import read_table
    from examples.text_rnn.engines import open_engine
    from examples.text_rnn.prepared_data import TEST
    from examples.text_rnn.speed import classification_speeds, generation_speeds, speed_table
    from examples.text_rnn.trained_model import check_same_vocabulary, read_model
    from jisu.networks import LanguageModel

    torch.set_num_threads(arguments.threads)
    model = read_model(arguments.model)
    with ExitStack() as stack:
        engines = {}
        for folder in arguments.engine:
            check_same_vocabulary(model, folder)
            engines[folder.name] = stack.enter_context(
                open_engine(folder, arguments.backend, model, threads=arguments.threads)
            )
        if isinstance(model.module, LanguageModel):
            print(speed_table(generation_speeds(model.module, engines), "words"))
            return
        if arguments.data is None:
            raise InputError(
                "There are no texts to classify",
                received="no --data",
                allowed="--data with prepared texts",
                fix="Name the prepared data.",
            )
        texts = [model.preparation.preprocessing.prepare(text) for text in read_table(arguments.data / TEST).texts[:64]]
        print(speed_table(classification_speeds(model.module, engines, texts), "texts"))
