"""`jisu generate`: one prompt in, the answer on standard output as it comes, one line of numbers on standard error.

Many prompts are the business of `runtimes.commands.many_prompts`.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands.engine_arguments import (
    add_chat_arguments,
    add_engine_arguments,
    chat_fields,
    load_engine,
    option_names,
    read_text_file,
    sampling_options,
)
from jisu.runtimes.commands.many_prompts import add_many_arguments, check_many_arguments, run_many
from jisu.runtimes.commands.standard_streams import write_json

if TYPE_CHECKING:
    from jisu.runtimes.generation.result import Result
    from jisu.runtimes.generation.text_stream import TextStream

INTERRUPTED = 130
STDIN = "-"
_CHAT = ("messages", "continue_final_message", "tools", "template_var", "drop_oldest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_engine_arguments(parser)
    add_chat_arguments(parser)
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="text to answer or continue; - reads standard input"
    )
    parser.add_argument("--prompt-file", metavar="FILE", help="file with the prompt; - reads standard input")
    parser.add_argument(
        "--image",
        action="append",
        metavar="FILE",
        help="image for the prompt, again for each further one (default: none); needs a model that sees",
    )
    parser.add_argument(
        "--audio",
        action="append",
        metavar="FILE",
        help="recording for the prompt, again for each further one (default: none); needs a model that hears",
    )
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument(
        "--messages", metavar="FILE", help="JSON file with a conversation to answer; - reads standard input"
    )
    parser.add_argument("--continue-final-message", action="store_true", help="continue the last of the --messages")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="pass the prompt as it is, without the chat template; special tokens in it are recognized",
    )
    parser.add_argument(
        "--logprobs",
        type=int,
        metavar="N",
        help="with --json or --input: log-probabilities of each token and of the N most likely ones",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    parser.add_argument("--quiet", action="store_true", help="do not print the line of timings")
    add_many_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Generate; returns 0, or 130 when it was interrupted. Raises InputError."""
    from dataclasses import replace

    check_many_arguments(arguments)
    _check_pairs(arguments)
    if arguments.input is not None:
        return run_many(arguments)
    fields = chat_fields(arguments)
    messages: dict[str, Any] = {} if arguments.messages is None else _messages_of(arguments.messages)
    prompt = "" if messages else _prompt(arguments)
    options = replace(sampling_options(arguments), logprobs=arguments.logprobs)
    with load_engine(arguments) as engine:
        if not messages and arguments.system is None and not any(fields.values()) and not arguments.drop_oldest:
            chat = False if arguments.raw else None
            stream = engine.stream(prompt, chat=chat, images=arguments.image, audios=arguments.audio, options=options)
        else:
            chat_options = {key: value for key, value in fields.items() if value}
            stream = engine.stream_chat(
                **(messages or {"messages": _messages(arguments, prompt)}) | chat_options,
                options=options,
                images=arguments.image,
                audios=arguments.audio,
                continue_final_message=arguments.continue_final_message,
                drop_oldest=arguments.drop_oldest,
            )
        try:
            _show(stream, as_json=arguments.json)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return INTERRUPTED
    if arguments.json:
        write_json(stream.result.to_dict())
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


def _messages_of(path: str) -> dict[str, Any]:
    from jisu.runtimes.chat.messages import read_messages

    return read_messages(read_text_file(path), name=path)


def _prompt(arguments: argparse.Namespace) -> str:
    """The prompt; the line ends at the end of a pipe or a file are the shell's and the editor's."""
    prompts = [text for text in (arguments.prompt, arguments.prompt_file) if text is not None]
    if len(prompts) > 1 or (not prompts and sys.stdin.isatty()):
        raise InputError(
            "There has to be one prompt",
            received="PROMPT and --prompt-file" if prompts else "none",
            allowed="PROMPT, --prompt-file, or text on standard input",
            fix="Write the prompt in quotes after the artifact.",
        )
    if arguments.prompt_file is not None:
        return read_text_file(arguments.prompt_file).rstrip("\r\n")
    prompt: str = prompts[0] if prompts else STDIN
    return read_text_file(prompt).rstrip("\r\n") if prompt == STDIN else prompt


def _check_pairs(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option that the others leave without effect."""
    if arguments.logprobs is not None and not arguments.json and arguments.input is None:
        raise InputError(
            "--logprobs needs --json, which alone shows them",
            received="--logprobs alone",
            allowed="--logprobs together with --json",
            fix="Add --json, or leave it out.",
        )
    of_chat = [name for name in ("system", *_CHAT) if getattr(arguments, name)]
    if arguments.raw and of_chat:
        raise InputError(
            f"{option_names(of_chat)} needs the chat template that --raw leaves out",
            received=f"--raw and {option_names(of_chat)}",
            allowed="one of them",
            fix="Leave one out.",
        )
    _check_shown(arguments)
    of_prompt = [name for name in ("prompt", "prompt_file", "system") if getattr(arguments, name) is not None]
    if arguments.messages is not None and of_prompt:
        raise InputError(
            "A conversation has its prompt among its messages",
            received=f"--messages and {', '.join(of_prompt)}",
            allowed="one of them",
            fix="Put everything into the file.",
        )
    if arguments.continue_final_message and arguments.messages is None:
        raise InputError(
            "There is no message to continue",
            received="--continue-final-message without --messages",
            allowed="a file of messages whose last one is the assistant's",
            fix="Give the conversation with --messages.",
        )


def _check_shown(arguments: argparse.Namespace) -> None:
    for option, shown in (("--image", arguments.image), ("--audio", arguments.audio)):
        if shown and arguments.input is not None:
            raise InputError(
                "Images and recordings belong to one prompt",
                received=f"{option} and --input",
                allowed=f"{option} with a PROMPT or --messages",
                fix="Ask once for each prompt.",
            )


def _messages(arguments: argparse.Namespace, prompt: str) -> list[dict[str, Any]]:
    from jisu.runtimes.generation.prompts import check_prompt

    system = arguments.system
    first: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    text = check_prompt(prompt)
    shown = [*({"type": "image"} for _ in arguments.image or ()), *({"type": "audio"} for _ in arguments.audio or ())]
    return [*first, {"role": "user", "content": [*shown, {"type": "text", "text": text}] if shown else text}]


def _show(stream: TextStream, *, as_json: bool) -> None:
    for piece in stream:
        if not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    if not as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()
