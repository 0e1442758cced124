"""`jisu fill`: the likeliest words at the masked places of texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import add_text_arguments, text_blocks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    add_text_arguments(parser, purpose="fill")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="words for each masked place (default: 5)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each text, with the words of each masked place"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fill; returns 0. Raises InputError."""
    with load_engine(arguments) as engine:
        for block in text_blocks(arguments):
            filled = engine.fill(block, top_k=arguments.top, truncate=arguments.truncate)
            for text, places in zip(block, filled, strict=True):
                if arguments.json:
                    write_json({"text": text, "places": [[asdict(one) for one in place] for place in places]})
                    continue
                for one in (word for place in places for word in place):
                    sys.stdout.write(f"{one.word.strip()}\t{one.score:.4f}\t{' '.join(one.text.split())}\n")
            sys.stdout.flush()
    return 0
