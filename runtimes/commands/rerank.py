"""`jisu rerank`: the documents of a file in the order in which they answer a query."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import file_texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    parser.add_argument("--query", required=True, metavar="TEXT", help="what the documents are to answer")
    parser.add_argument(
        "--documents",
        required=True,
        type=Path,
        metavar="FILE",
        help='documents: one a line, or of a .jsonl file the key "text" of each line',
    )
    parser.add_argument(
        "--instruction", metavar="TEXT", help="what the model is told to look for, where its prompt has a place for it"
    )
    parser.add_argument("--top", type=int, metavar="N", help="print the best N only (default: all)")
    parser.add_argument("--truncate", action="store_true", help="shorten what is too long instead of refusing it")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each document")


def run(arguments: argparse.Namespace) -> int:
    """Rank; returns 0. Raises InputError."""
    with load_engine(arguments) as engine:
        ranked = engine.rerank(
            arguments.query,
            file_texts(arguments.documents),
            top=arguments.top,
            truncate=arguments.truncate,
            instruction=arguments.instruction,
        )
    texts = dict(_chosen(arguments.documents, {index for index, _ in ranked}))
    for index, score in ranked:
        if arguments.json:
            write_json({"index": index, "score": score, "text": texts[index]})
        else:
            sys.stdout.write(f"{index}\t{score:.4f}\t{' '.join(texts[index].split())}\n")
    return 0


def _chosen(file: Path, indices: set[int]) -> Iterator[tuple[int, str]]:
    """The documents that are printed, read once more: only these are held."""
    return ((index, text) for index, text in enumerate(file_texts(file)) if index in indices)
