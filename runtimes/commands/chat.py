"""`jisu chat`: a conversation on the terminal. Ctrl-C stops one answer, Ctrl-D or /quit leaves, /reset forgets.

When standard input is no terminal it reads one message a line and writes only the answers.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from runtimes.commands.engine_arguments import add_engine_arguments, load_engine, sampling_options
from runtimes.commands.generate import summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtimes.conversation import Conversation

PROMPT = "> "
QUIT = ("/quit", "/exit")
RESET = "/reset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_engine_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="a first message that tells the model how to behave")


def run(arguments: argparse.Namespace) -> int:
    """Talk until the input ends; returns 0. Raises InputError when the model cannot chat at all."""
    from exporter.errors import InputError
    from runtimes.conversation import Conversation

    options = sampling_options(arguments)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with load_engine(arguments) as engine:
        engine.message_ids([{"role": "user", "content": "?"}])  # refuses now what it would refuse at the first message
        conversation = Conversation(engine, system=arguments.system, options=options)
        if interactive:
            sys.stderr.write("Ctrl-C stops an answer, Ctrl-D or /quit leaves, /reset forgets the conversation.\n")
        for line in _messages(interactive=interactive):
            if line == RESET:
                conversation.reset()
                continue
            try:
                _answer(conversation, line, interactive=interactive)
            except InputError as error:
                if not interactive:
                    raise
                sys.stderr.write(f"{error}\n")
    return 0


def _messages(*, interactive: bool) -> Iterator[str]:
    """The user's messages until the input ends or asks to leave."""
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (gives input() a history and keys to edit)
    while True:
        try:
            line = input(PROMPT) if interactive else sys.stdin.readline()
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:  # at the prompt it only drops the line
            sys.stdout.write("\n")
            continue
        if (not interactive and not line) or line.strip() in QUIT:
            return
        if line.strip():
            yield line.strip()


def _answer(conversation: Conversation, text: str, *, interactive: bool) -> None:
    try:
        with contextlib.closing(conversation.ask(text)) as pieces:
            for piece in pieces:
                sys.stdout.write(piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(" [stopped]")
    sys.stdout.write("\n")
    sys.stdout.flush()
    if interactive and conversation.last_result is not None:
        sys.stderr.write(f"({summary(conversation.last_result)})\n")
