"""`jisu classify`: a line for each text, or pair of texts, with its label and score."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import add_text_arguments, text_blocks

if TYPE_CHECKING:
    from jisu.runtimes.reading.classification import Classification


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    add_text_arguments(parser, purpose="classify")
    parser.add_argument(
        "--pair", metavar="TEXT", help="second text of a pair, for each TEXT; the model reads both as one"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per text, with the probability of every label"
    )


def run(arguments: argparse.Namespace) -> int:
    """Classify; returns 0. Raises InputError."""
    with load_engine(arguments) as engine:
        for block in text_blocks(arguments):
            texts = [text if arguments.pair is None else (text, arguments.pair) for text in block]
            for text, label in zip(texts, engine.classify(texts, truncate=arguments.truncate), strict=True):
                _show(text, label, as_json=arguments.json)
            sys.stdout.flush()
    return 0


def _show(text: str | tuple[str, str], classification: Classification, *, as_json: bool) -> None:
    first, second = (text, None) if isinstance(text, str) else text
    if as_json:
        write_json(
            {
                "text": first,
                **({} if second is None else {"text_pair": second}),
                "label": classification.label,
                **({"labels": list(classification.labels)} if classification.activation == "sigmoid" else {}),
                "probability" if classification.activation != "none" else "score": classification.score,
                "probabilities" if classification.activation != "none" else "scores": dict(classification.scores),
            }
        )
        return
    several = classification.activation == "sigmoid" and len(classification.scores) > 1
    labels = ", ".join(classification.labels) or "-" if several else classification.label
    words = " ".join(first.split()) + ("" if second is None else "\t" + " ".join(second.split()))
    score = f"{classification.score:.4f}"
    if classification.activation == "none" and len(classification.scores) > 1:  # estimates, none of which is the best
        labels = ", ".join(classification.scores)
        score = ", ".join(f"{value:.4f}" for value in classification.scores.values())
    sys.stdout.write(f"{labels}\t{score}\t{words}\n")
