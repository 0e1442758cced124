"""`jisu classify`: a line for each text with its label and probability. Texts are words or lines of standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json

if TYPE_CHECKING:
    from jisu.runtimes.generation.classification import Classification

STDIN = "-"
# Texts that are read before the first of them is classified: lines of a file are batched, those of a person are not.
_AHEAD = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="text to classify; - or none reads lines from standard input"
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut off texts that are too long instead of refusing them"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per text, with the probability of every label"
    )


def run(arguments: argparse.Namespace) -> int:
    """Classify; returns 0. Raises InputError."""
    interactive = sys.stdin.isatty()
    texts = iter(arguments.texts)
    if arguments.texts in ([], [STDIN]):
        if interactive and not arguments.texts:
            raise InputError(
                "There is no text",
                received="neither TEXT nor lines on standard input",
                allowed="one text or more",
                fix="Write each text in quotes after the artifact, or - to type them.",
            )
        texts = _lines()
    with load_engine(arguments) as engine:
        while block := list(islice(texts, 1 if interactive else _AHEAD)):
            for text, label in zip(block, engine.classify(block, truncate=arguments.truncate), strict=True):
                _show(text, label, as_json=arguments.json)
            sys.stdout.flush()
    return 0


def _lines() -> Iterator[str]:
    """Lines of standard input that have something in them."""
    for line in sys.stdin:
        if line.strip():
            yield line.rstrip("\r\n")


def _show(text: str, classification: Classification, *, as_json: bool) -> None:
    if as_json:
        probabilities = dict(classification.probabilities)
        write_json(
            {
                "text": text,
                "label": classification.label,
                "probability": classification.probability,
                "probabilities": probabilities,
            }
        )
        return
    sys.stdout.write(f"{classification.label}\t{classification.probability:.4f}\t{' '.join(text.split())}\n")
