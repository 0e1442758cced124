"""Type texts and see them continued or labelled."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    parser.add_argument("--engine", required=True, type=Path, metavar="FOLDER", help="what export wrote")
    parser.add_argument("--backend", default="ort-cpu", metavar="NAME")
    parser.add_argument("--max-new-tokens", type=int, default=40, metavar="N")
    parser.add_argument("--temperature", type=float, metavar="T", help="above 0 draws words; without it the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat a drawn answer")


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.asking import NEVER
    from examples.text_rnn.engines import open_engine
    from examples.text_rnn.prompt import ask_until_done
    from examples.text_rnn.trained_model import check_same_vocabulary, read_model
    from jisu import SamplingOptions

    model = read_model(arguments.model)
    check_same_vocabulary(model, arguments.engine)
    options = SamplingOptions(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        seed=arguments.seed,
        logit_bias=NEVER,
    )
    with open_engine(arguments.engine, arguments.backend, model) as engine:
        ask_until_done(engine, model.preparation, options)
