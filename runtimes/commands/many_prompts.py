"""`jisu generate --input FILE`: many prompts in, one line of JSON for each answer."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.commands.bounded_text import bounded_lines
from jisu.runtimes.commands.engine_arguments import chat_fields, load_engine, option_names, sampling_options
from jisu.runtimes.generation import DEFAULT_BATCH

if TYPE_CHECKING:
    from jisu.runtimes.generation.many import Prompt, PromptResult

STDIN = "-"
_BESIDE = ("images", "audios")  # as `Engine.generate` names them
# What says how one prompt is read or shown, and nothing of many.
_OF_MANY = ("input_format", "output", "overwrite", "batch_size", "as_finished")
_OF_ONE = ("prompt", "prompt_file", "messages", "continue_final_message", "drop_oldest", "json")


def add_many_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what makes many prompts of it."""
    group = parser.add_argument_group("many prompts")
    group.add_argument(
        "--input",
        metavar="FILE",
        help='prompts: one a line, or JSON lines with "prompt" or "messages", and "seed"; - reads standard input',
    )
    group.add_argument(
        "--input-format",
        choices=("text", "jsonl"),
        help="how --input is read (default: jsonl for a name that ends in .jsonl, else text)",
    )
    group.add_argument("--output", type=Path, metavar="FILE", help="JSON lines to write (default: standard output)")
    group.add_argument("--overwrite", action="store_true", help="replace the --output file")
    group.add_argument(
        "--batch-size", type=int, metavar="N", help=f"prompts computed at once, at most (default: {DEFAULT_BATCH})"
    )
    group.add_argument(
        "--as-finished", action="store_true", help="write answers as they end (default: in the order of the prompts)"
    )


def check_many_arguments(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option of many prompts without them, and for one of a single prompt with them."""
    unread = _OF_MANY if arguments.input is None else _OF_ONE
    names = option_names(name for name in unread if _is_given(getattr(arguments, name)))
    if not names:
        return
    if arguments.input is None:
        raise InputError(
            f"{names} belongs to --input",
            received=f"{names} without --input",
            allowed=f"{names} together with --input",
            fix="Add --input FILE.",
        )
    raise InputError(
        "Many prompts come from one place",
        received=f"--input and {names}",
        allowed="--input alone, with options for all of its prompts",
        fix=f"Leave {names} out; a line of JSON can have messages.",
    )


def _is_given(value: object) -> bool:
    """Whether an option was typed, 0 and an empty text included."""
    return value is not None and value is not False and value != []


def run_many(arguments: argparse.Namespace) -> int:
    """Answer all prompts; returns 0, or 2 when some were refused, whose lines say why."""
    from dataclasses import replace

    if any(chat_fields(arguments).values()):
        raise InputError(
            "Many prompts are read by the chat template alone",
            received="--tools or --template-var",
            allowed="prompts, and conversations in lines of JSON",
            fix="Leave the options out, or give one conversation with --messages.",
        )
    options = replace(sampling_options(arguments), logprobs=arguments.logprobs)
    refused = done = tokens = 0
    begun = time.perf_counter()
    with load_engine(arguments) as engine, _opened(arguments) as lines, _output(arguments) as output:
        entries = _Entries(lines, name=arguments.input, as_json=_is_json(arguments), system=arguments.system)
        with _progress(silent=arguments.quiet) as report:
            results = engine.generate_many(
                entries,
                batch_size=DEFAULT_BATCH if arguments.batch_size is None else arguments.batch_size,
                in_order=not arguments.as_finished,
                on_error="yield",
                progress=report,
                chat=False if arguments.raw else None,
                options=options,
            )
            for item in results:
                _write(output, item, entries.records.pop(item.index))
                done, refused = done + 1, refused + (item.error is not None)
                tokens += 0 if item.answer is None else item.answer.new_tokens
    if not arguments.quiet:
        seconds = time.perf_counter() - begun
        parts = [f"{done} prompts", f"{tokens} new tokens in {seconds:.1f} s", f"{tokens / seconds:.1f} tokens/s"]
        sys.stderr.write(", ".join([*parts, *([f"{refused} refused"] if refused else [])]) + "\n")
    return 2 if refused else 0


class _Entries:
    """The prompts of a file, one after the other; ``records`` keeps each line's content until it is answered."""

    def __init__(self, lines: TextIO, *, name: str, as_json: bool, system: str | None) -> None:
        self._lines, self._name = lines, name
        self._as_json, self._system = as_json, system
        self._count = 0
        self.records: dict[int, Any] = {}

    def __iter__(self) -> Iterator[str | Prompt]:
        lines = bounded_lines(self._lines)
        for number in itertools.count(1):
            try:
                line = next(lines, "")
            except (OSError, UnicodeDecodeError) as error:
                raise _unreadable(self._name, error) from error
            if not line:
                return
            text = line.rstrip("\r\n")
            if text.strip():
                record = self._parsed(text, number) if self._as_json else text
                prompt = self._prompt(record, number)
                self.records[self._count] = record
                self._count += 1
                yield prompt

    def _parsed(self, text: str, number: int) -> dict[str, Any]:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._wrong(number, received=error) from error
        if not isinstance(record, dict) or ("prompt" in record) == ("messages" in record):
            raise self._wrong(number, received=shown(record))
        beside = [key for key in _BESIDE if key in record]
        if beside:  # other keys are the caller's own; these would change the answer
            raise InputError(
                f"Line {number} of {self._name} has {' and '.join(beside)}, which many prompts are read without",
                received=shown(record),
                allowed='"prompt" or "messages", "seed", and keys that mean nothing here',
                fix="Ask about each with jisu generate FOLDER PROMPT --image FILE or --audio FILE, or from Python.",
            )
        return record

    def _prompt(self, record: Any, number: int) -> Prompt:
        from jisu.runtimes.generation.many import Prompt

        fields = record if isinstance(record, dict) else {"prompt": record}
        text, messages = fields.get("prompt"), fields.get("messages")
        if not isinstance(text, (str, type(None))) or not isinstance(messages, (list, type(None))):
            raise self._wrong(number, received=shown(record))
        if text is not None and self._system is not None:
            text, messages = None, [{"role": "system", "content": self._system}, {"role": "user", "content": text}]
        return Prompt(text=text, messages=messages, seed=fields.get("seed"))

    def _wrong(self, number: int, *, received: object) -> InputError:
        return InputError(
            f"Line {number} of {'standard input' if self._name == STDIN else self._name} is no prompt",
            received=received,
            allowed='{"prompt": text} or {"messages": [...]}, with "seed" and anything else that is to be kept',
            fix="Correct the line, or read the file with --input-format text.",
        )


def _is_json(arguments: argparse.Namespace) -> bool:
    if arguments.input_format is None:
        return str(arguments.input).lower().endswith(".jsonl")
    return bool(arguments.input_format == "jsonl")


def _write(output: TextIO, item: PromptResult, record: Any) -> None:
    """One line: the index, what was given, and the answer or the error; flushed, so that a killed run keeps it."""
    outcome = {"error": str(item.error)} if item.answer is None else item.answer.to_dict()
    line = {"index": item.index, "input": record, **outcome}
    output.write(json.dumps(line, ensure_ascii=(output.encoding or "").lower().replace("-", "") != "utf8") + "\n")
    output.flush()


def _opened(arguments: argparse.Namespace) -> AbstractContextManager[TextIO]:
    """The lines of --input."""
    if arguments.input == STDIN:
        return nullcontext(sys.stdin)
    try:
        return Path(arguments.input).open(encoding="utf-8-sig")
    except OSError as error:
        raise _unreadable(arguments.input, error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(
        f"The file {name} cannot be read", received=error, allowed="a UTF-8 text file", fix="Check the path."
    )


def _output(arguments: argparse.Namespace) -> AbstractContextManager[TextIO]:
    """Where the lines go."""
    path: Path | None = arguments.output
    if path is None:
        return nullcontext(sys.stdout)
    try:
        return path.open("w" if arguments.overwrite else "x", encoding="utf-8")
    except FileExistsError as error:
        raise InputError(
            f"The file {path} exists",
            received=f"--output {path}",
            allowed="a new file",
            fix="Name another one, or add --overwrite.",
        ) from error
    except OSError as error:
        raise InputError(
            f"The file {path} cannot be written",
            received=error,
            allowed="a file in a writable folder",
            fix="Name another file with --output.",
        ) from error


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[int], object] | None]:
    """A count of answers on a terminal, where somebody watches and the answers do not go there."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("answered"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done: bar.update(task, completed=done)
