"""`jisu generate`: one prompt in, the answer on standard output as it comes, one line of numbers on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from exporter.errors import InputError
from runtimes.commands.engine_arguments import add_engine_arguments, load_engine, read_text_file, sampling_options

if TYPE_CHECKING:
    from runtimes.result import Result
    from runtimes.text_stream import TextStream

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_engine_arguments(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to answer or continue")
    parser.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file; - is standard input")
    parser.add_argument("--raw", action="store_true", help="give the prompt as it is, without the chat template")
    parser.add_argument("--logprobs", type=int, metavar="N", help="with --json: log-probabilities, and the N likeliest")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")


def run(arguments: argparse.Namespace) -> int:
    """Generate; returns 0, or 130 when it was interrupted. Raises InputError."""
    from dataclasses import replace

    prompt = _prompt(arguments)
    options = replace(sampling_options(arguments), logprobs=arguments.logprobs)
    with load_engine(arguments) as engine:
        stream = engine.stream(prompt, chat=False if arguments.raw else None, options=options)
        try:
            _show(stream, as_json=arguments.json)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return INTERRUPTED
    if arguments.json:
        sys.stdout.write(json.dumps(_record(stream.result), ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(summary(stream.result) + "\n")
    return 0


def summary(result: Result) -> str:
    """The line of numbers: how long the prompt took, and how fast the answer came."""
    timings = result.timings
    speed = timings.decode_tokens_per_second
    parts = [
        f"{result.prompt_tokens} prompt tokens",
        f"first token after {timings.time_to_first_token:.2f} s",
        f"{len(result.token_ids)} new tokens" + (f" at {speed:.1f} tokens/s" if speed else ""),
        f"ended by {result.finish_reason}",
    ]
    return ", ".join(parts)


def _prompt(arguments: argparse.Namespace) -> str:
    if (arguments.prompt is None) == (arguments.prompt_file is None):
        raise InputError(
            "There has to be one prompt",
            received="none" if arguments.prompt is None else "PROMPT and --prompt-file",
            allowed="PROMPT or --prompt-file",
            fix="Write the prompt in quotes after the artifact.",
        )
    if arguments.prompt_file is None:
        text: str = arguments.prompt
        return text
    return read_text_file(arguments.prompt_file)


def _show(stream: TextStream, *, as_json: bool) -> None:
    for piece in stream:
        if not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if not as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()


def _record(result: Result) -> dict[str, object]:
    from dataclasses import asdict

    record = asdict(result)
    record["timings"]["decode_tokens_per_second"] = result.timings.decode_tokens_per_second
    return record
