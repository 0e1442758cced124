"""`jisu rerank`: the documents of a file in the order in which they answer a query."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
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
        help='documents: one a line, or of a .jsonl file the key "text" of each line; - reads standard input',
    )
    parser.add_argument(
        "--instruction", metavar="TEXT", help="what the model is told to look for, where its prompt has a place for it"
    )
    parser.add_argument("--top", type=int, metavar="N", help="print the best N only (default: all)")
    parser.add_argument("--truncate", action="store_true", help="shorten what is too long instead of refusing it")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each document")


def run(arguments: argparse.Namespace) -> int:
    """Rank; returns 0. Raises InputError."""
    # What a pipe gave cannot be read again, so that all of it is held.
    held: list[str] | None = None if arguments.documents.is_file() else []
    documents = file_texts(arguments.documents)
    with load_engine(arguments) as engine:
        ranked = engine.rerank(
            arguments.query,
            documents if held is None else _holding(documents, held),
            top=arguments.top,
            truncate=arguments.truncate,
            instruction=arguments.instruction,
        )
    chosen = {index for index, _ in ranked}
    again = file_texts(arguments.documents) if held is None else held
    texts = {index: text for index, text in enumerate(again) if index in chosen}
    for index, score in ranked:
        if arguments.json:
            write_json({"index": index, "score": score, "text": texts[index]})
        else:
            sys.stdout.write(f"{index}\t{score:.4f}\t{' '.join(texts[index].split())}\n")
    return 0


def _holding(texts: Iterable[str], held: list[str]) -> Iterator[str]:
    """The same texts, each of which is added to a list."""
    for text in texts:
        held.append(text)
        yield text
