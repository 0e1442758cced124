"""`jisu classify`: a line for each text with its label and probability."""

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
        "--json", action="store_true", help="print one JSON object per text, with the probability of every label"
    )


def run(arguments: argparse.Namespace) -> int:
    """Classify; returns 0. Raises InputError."""
    with load_engine(arguments) as engine:
        for block in text_blocks(arguments):
            for text, label in zip(block, engine.classify(block, truncate=arguments.truncate), strict=True):
                _show(text, label, as_json=arguments.json)
            sys.stdout.flush()
    return 0


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
