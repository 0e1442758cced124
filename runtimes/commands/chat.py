"""`jisu chat`: a conversation on the terminal. Ctrl-C stops one answer, Ctrl-D or /quit leaves, /reset forgets.

When standard input is no terminal it reads one message a line and writes only the answers. A command that does not
exist is said and passed over there, too, and the end is an error.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands.engine_arguments import (
    add_chat_arguments,
    add_engine_arguments,
    chat_fields,
    load_engine,
    sampling_options,
)
from jisu.runtimes.commands.generate import summary
from jisu.runtimes.commands.terminal import edit_lines, read_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jisu.runtimes.conversation import Conversation

PROMPT = "> "
HELP, RESET, QUIT = "/help", "/reset", ("/quit", "/exit")
COMMANDS = {HELP: "show this list", RESET: "forget the conversation", **dict.fromkeys(QUIT, "leave")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_engine_arguments(parser)
    add_chat_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="system message")


def run(arguments: argparse.Namespace) -> int:
    """Talk until the input ends.

    Returns:
        0, or the code of bad usage when a line from elsewhere than a terminal was an unknown command.

    Raises:
        InputError: the model cannot chat at all, or cannot answer a line from elsewhere than a terminal.
    """
    from jisu.runtimes.conversation import Conversation

    options = sampling_options(arguments)
    fields = chat_fields(arguments)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with load_engine(arguments) as engine:
        conversation = Conversation(
            engine, system=arguments.system, options=options, drop_oldest=arguments.drop_oldest, **fields
        )
        conversation.ask("?")  # refuses now what it would refuse at the first message
        conversation.reset()
        if interactive:
            edit_lines()
            sys.stderr.write("Ctrl-C stops an answer, Ctrl-D or /quit leaves, /reset forgets the conversation.\n")
        code = 0
        for line in _lines(interactive=interactive):
            is_command = _is_command(line)
            try:
                if is_command:
                    _obey(line, conversation)
                else:
                    _answer(conversation, line, interactive=interactive)
            except InputError as error:
                # Without its answer the lines of a file would belong to other questions; a command has none.
                if not (interactive or is_command):
                    raise
                sys.stderr.write(f"jisu chat: error: {error}\n")
                code = 0 if interactive else error.exit_code
    return code


def _lines(*, interactive: bool) -> Iterator[str]:
    """What the user says until the input ends or asks to leave."""
    while True:
        try:
            line = read_line(PROMPT) if interactive else sys.stdin.readline()
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            sys.stdout.write("\n")  # at the prompt it only drops the line
            continue
        if (not interactive and not line) or line.strip() in QUIT:
            return
        if line.strip():
            yield line.strip()


def _is_command(line: str) -> bool:
    """One word behind a slash; a path with more slashes, or with words after it, is something to talk about."""
    return re.fullmatch(r"/\w*", line) is not None


def _obey(command: str, conversation: Conversation) -> None:
    if command == RESET:
        conversation.reset()
    elif command == HELP:
        sys.stderr.writelines(f"{name:8}{text}\n" for name, text in COMMANDS.items())
    else:
        raise InputError(
            "There is no such command",
            received=command,
            allowed=", ".join(f"{name} ({text})" for name, text in COMMANDS.items()),
            fix="Choose one of these; to send the text to the model, begin the line with another character than /.",
        )


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
