"""`jisu generate`: one prompt in, the answer on standard output as it comes, one line of numbers on standard error."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from exporter.contract.errors import InputError
from runtimes.commands.engine_arguments import add_engine_arguments, load_engine, read_text_file, sampling_options
from runtimes.commands.standard_streams import write_json

if TYPE_CHECKING:
    from runtimes.generation.result import Result
    from runtimes.generation.text_stream import TextStream

INTERRUPTED = 130
STDIN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_engine_arguments(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to answer or continue; - is standard input")
    parser.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file; - is standard input")
    parser.add_argument("--system", metavar="TEXT", help="a first message that tells the model how to behave")
    parser.add_argument("--raw", action="store_true", help="give the prompt as it is, without the chat template")
    parser.add_argument("--logprobs", type=int, metavar="N", help="with --json: log-probabilities, and the N likeliest")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    parser.add_argument("--quiet", action="store_true", help="leave out the line of numbers")


def run(arguments: argparse.Namespace) -> int:
    """Generate; returns 0, or 130 when it was interrupted. Raises InputError."""
    from dataclasses import replace

    _check_pairs(arguments)
    prompt = _prompt(arguments)
    options = replace(sampling_options(arguments), logprobs=arguments.logprobs)
    with load_engine(arguments) as engine:
        if arguments.system is None:
            stream = engine.stream(prompt, chat=False if arguments.raw else None, options=options)
        else:
            stream = engine.stream_chat(_messages(arguments.system, prompt), options=options)
        try:
            _show(stream, as_json=arguments.json)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return INTERRUPTED
    if arguments.json:
        write_json(_record(stream.result))
    elif not arguments.quiet:
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
        *([f"seed {result.seed}"] if result.seed is not None else []),
    ]
    return ", ".join(parts)


def _prompt(arguments: argparse.Namespace) -> str:
    given = [text for text in (arguments.prompt, arguments.prompt_file) if text is not None]
    if len(given) > 1 or (not given and sys.stdin.isatty()):
        raise InputError(
            "There has to be one prompt",
            received="PROMPT and --prompt-file" if given else "none",
            allowed="PROMPT, --prompt-file, or text on standard input",
            fix="Write the prompt in quotes after the artifact.",
        )
    if arguments.prompt_file is not None:
        return read_text_file(arguments.prompt_file)
    prompt: str = given[0] if given else STDIN
    return read_text_file(prompt) if prompt == STDIN else prompt


def _check_pairs(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option that the others leave without effect."""
    if arguments.logprobs is not None and not arguments.json:
        raise InputError(
            "--logprobs shows nothing without --json", received="--logprobs alone", fix="Add --json, or leave it out."
        )
    if arguments.raw and arguments.system is not None:
        raise InputError(
            "--system needs the chat template that --raw leaves out",
            received="--raw and --system",
            allowed="one of them",
            fix="Leave one out.",
        )


def _messages(system: str, prompt: str) -> list[dict[str, str]]:
    from runtimes.generation.prompts import check_prompt

    return [{"role": "system", "content": system}, {"role": "user", "content": check_prompt(prompt)}]


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
