"""The ``jisu`` command: it dispatches a verb to the package that does it, and turns every way to end into an exit code.

A verb's module is imported when the verb is called, so that ``jisu --help`` stays instant.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jisu
from jisu.exporter.contract.errors import JisuError
from jisu.runtimes.commands.standard_streams import abandon_output, is_full, prepare_streams

# verb -> (module with add_arguments(parser) and run(arguments) -> exit code, one line of help)
VERBS = {
    "export": ("jisu.exporter.commands.export", "export a checkpoint and verify that the result matches it"),
    "verify": ("jisu.exporter.commands.verify", "verify an existing artifact against its source"),
    "calibrate": (
        "jisu.exporter.commands.calibrate",
        "collect statistics of a checkpoint's activations for later exports",
    ),
    "sensitivity": ("jisu.exporter.commands.sensitivity", "measure how much each number format costs each layer"),
    "families": ("jisu.exporter.commands.families", "list the transformers model types and how each one exports"),
    "diagnose": (
        "jisu.exporter.commands.diagnose",
        "find the layer and token at which a graph diverges from its source",
    ),
    "inspect": (
        "jisu.exporter.commands.inspect",
        "show what an artifact holds, what was verified and where it came from",
    ),
    "build": ("jisu.runtimes.commands.build", "compile an artifact into TensorRT plans"),
    "generate": ("jisu.runtimes.commands.generate", "answer a prompt"),
    "chat": ("jisu.runtimes.commands.chat", "talk with a model"),
    "classify": ("jisu.runtimes.commands.classify", "label texts with a classifier"),
    "rerank": ("jisu.runtimes.commands.rerank", "put documents into the order in which they answer a query"),
    "tag": ("jisu.runtimes.commands.tag", "find names, or words of other kinds, in texts"),
    "fill": ("jisu.runtimes.commands.fill", "find words for the masked places of texts"),
    "answer": ("jisu.runtimes.commands.answer", "find the answer to a question in a text"),
    "transcribe": ("jisu.runtimes.commands.transcribe", "write down what is said in recordings"),
    "embed": ("jisu.runtimes.commands.embed", "give texts their vectors with an embedding model"),
    "compare": (
        "jisu.benchmarks.commands.compare",
        "compare artifacts, backends and other engines in speed and quality",
    ),
    "doctor": ("jisu.runtimes.commands.doctor", "check what this machine can run and how to fix what it cannot"),
}

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for a program ended by Ctrl-C
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Returns:
        0 done; 1 a bug of ours, after its traceback; 2 usage or bad input; 3 the gate rejected the export;
        4 a comparison found a regression; 130 interrupted; 141 the reader of our output went away.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verb = words[0] if words and words[0] in VERBS else None
    name = f"jisu {verb}" if verb else "jisu"
    try:
        prepare_streams()
        try:
            code = _run_verb(verb, words[1:]) if verb else _answer_without_verb(words)
        except SystemExit as end:  # argparse ends this way after --help (0) and after a usage error (2)
            code = end.code if isinstance(end.code, int) else 2
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every way to end has its exit code
        return _report(error, name=name)
    return code


def _report(error: BaseException, *, name: str) -> int:
    """Say on standard error what ended the command, as much as it needs, and return the exit code."""
    if _has_interrupt(error):
        sys.stderr.write("\n")
        return INTERRUPTED
    if isinstance(error, JisuError):
        sys.stderr.write(f"{name}: error: {error}\n")
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        abandon_output()
        return BROKEN_PIPE
    if is_full(error):
        abandon_output()
        sys.stderr.write(f"{name}: error: Writing failed: {error}. Make room, or write elsewhere.\n")
        return 2
    traceback.print_exception(error)
    sys.stderr.write("\nThis is a bug in jisu. Please report it with the lines above and the command you ran.\n")
    return 1


def _has_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: compiled packages interrupted while being imported raise errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _run_verb(verb: str, words: list[str]) -> int:
    module_name, line = VERBS[verb]
    module = importlib.import_module(module_name)
    parser = _Parser(prog=f"jisu {verb}", description=f"{line[0].upper()}{line[1:]}.", allow_abbrev=False)
    module.add_arguments(parser)
    run: Callable[[argparse.Namespace], int] = module.run
    return run(parser.parse_args(words))


def _answer_without_verb(words: list[str]) -> int:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items())
    parser = _Parser(
        prog="jisu",
        usage="jisu VERB ...",
        description="Exports language models to ONNX, verifies that they still are the same model, and runs them.",
        epilog=f"verbs:\n{verbs}\n\n`jisu VERB --help` tells more. Documentation: README.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    if words and not words[0].startswith("-"):
        parser.error(f"unknown verb {words[0]!r}{_nearest(words[0], VERBS)}; choose from {', '.join(VERBS)}")
    if parser.parse_args(words).version:
        sys.stdout.write(f"jisu {jisu.__version__}\n")
        return 0
    parser.print_help(sys.stdout if words else sys.stderr)
    return 0 if words else 2


class _PlainWord(str):
    """A word that came after ``--``."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest option when it meets an unknown one."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = list(args or [])
        end = words.index("--") if "--" in words else len(words)
        options, plain = words[:end], [_PlainWord(word) for word in words[end + 1 :]]
        for word in options:
            name = word.split("=")[0]
            # The same reading as argparse's: two dashes and no blank make an option.
            if name.startswith("--") and " " not in word and name not in self._option_string_actions:
                self.error(f"unknown option {name}{_nearest(name, self._option_string_actions)}")
        return super().parse_intermixed_args([*options, *plain], namespace)

    def _parse_optional(self, arg_string: str) -> Any:
        """Let argparse take what came after ``--`` for no option, wherever the other positional words were.

        Its own reading of ``--`` gives up when an option stands between two positional words.
        """
        return None if isinstance(arg_string, _PlainWord) else super()._parse_optional(arg_string)

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own lets the errors of a full device pass

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry `{self.prog} --help`.\n")


def _nearest(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
