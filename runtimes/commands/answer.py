"""`jisu answer`: the span of a file that answers a question."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands.bounded_text import bounded_text
from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import STDIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    parser.add_argument("--question", required=True, metavar="TEXT", help="what is asked")
    parser.add_argument(
        "--context",
        required=True,
        type=Path,
        metavar="FILE",
        help="text of any length to look in; - reads standard input",
    )
    parser.add_argument("--top", type=int, default=1, metavar="N", help="answers, the best first (default: 1)")
    parser.add_argument(
        "--window", type=int, default=384, metavar="N", help="tokens that the model reads at once (default: 384)"
    )
    parser.add_argument(
        "--stride", type=int, default=128, metavar="N", help="tokens that windows have in common (default: 128)"
    )
    parser.add_argument(
        "--max-answer-tokens", type=int, default=15, metavar="N", help="tokens of an answer (default: 15)"
    )
    parser.add_argument("--may-be-none", action="store_true", help="let the answer be that there is none")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each answer")


def run(arguments: argparse.Namespace) -> int:
    """Answer; returns 0. Raises InputError."""
    context = _read(arguments.context)
    with load_engine(arguments) as engine:
        answers = engine.answer(
            arguments.question,
            context,
            top_k=arguments.top,
            window=arguments.window,
            stride=arguments.stride,
            max_answer_tokens=arguments.max_answer_tokens,
            may_be_none=arguments.may_be_none,
        )
    for answer in answers:
        if arguments.json:
            write_json(asdict(answer))
        else:
            words = " ".join(answer.text.split()) or "(no answer)"
            sys.stdout.write(f"{answer.score:.4f}\t{answer.start}\t{answer.end}\t{words}\n")
    return 0


def _read(path: Path) -> str:
    if str(path) == STDIN:
        return bounded_text(sys.stdin, name="standard input")
    try:
        with path.open(encoding="utf-8") as stream:
            return bounded_text(stream, name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The file {path} cannot be read",
            received=error,
            allowed="a text file in UTF-8",
            fix="Check the path, or convert the file.",
        ) from error
