"""`jisu tag`: a line for each name, or word of another kind, that is found in texts."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import add_text_arguments, text_blocks
from jisu.runtimes.reading.tagging import AGGREGATIONS, OUTSIDE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    add_text_arguments(parser, purpose="tag")
    parser.add_argument(
        "--aggregation",
        choices=AGGREGATIONS,
        default="simple",
        help="what becomes of words of several tokens (default: simple, which merges neighbours of one label)",
    )
    parser.add_argument(
        "--ignore-label",
        action="append",
        metavar="LABEL",
        help=f"leave a label out; may be given several times (default: {OUTSIDE})",
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="read texts of any length, in windows that share N tokens"
    )
    parser.add_argument(
        "--window", type=int, metavar="N", help="tokens of each window (default: as many as the model reads)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each text, with all its tags")


def run(arguments: argparse.Namespace) -> int:
    """Tag; returns 0. Raises InputError."""
    ignored = (OUTSIDE,) if arguments.ignore_label is None else tuple(arguments.ignore_label)
    with load_engine(arguments) as engine:
        for block in text_blocks(arguments):
            tagged = engine.tag(
                block,
                aggregation=arguments.aggregation,
                ignore_labels=ignored,
                truncate=arguments.truncate,
                stride=arguments.stride,
                window=arguments.window,
            )
            for text, tags in zip(block, tagged, strict=True):
                if arguments.json:
                    write_json({"text": text, "tags": [asdict(tag) for tag in tags]})
                    continue
                for tag in tags:
                    words = " ".join(text[tag.start : tag.end].split())
                    sys.stdout.write(f"{tag.label}\t{tag.score:.4f}\t{tag.start}\t{tag.end}\t{words}\n")
            sys.stdout.flush()
    return 0
