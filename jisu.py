"""The front door: the ``jisu`` command, and every public name under one import.

It knows which package does what and nothing else. A verb's module is imported when the verb is called, a name's package
when the name is used, so that ``jisu --help`` and ``import jisu`` stay instant.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from exporter.contract.errors import JisuError
from runtimes.commands.standard_streams import abandon_output, is_full, prepare_streams

if TYPE_CHECKING:
    from exporter import ExportRequest, advise, calibrate, export, load_source, plan_export, verify
    from exporter.contract.errors import GateRejectedError, InputError
    from runtimes import Engine, load, register_backend

# verb -> (module with add_arguments(parser) and run(arguments) -> exit code, one line of help)
VERBS = {
    "export": ("exporter.commands.export", "export a checkpoint and verify that the result matches it"),
    "verify": ("exporter.commands.verify", "verify an existing artifact against its source"),
    "calibrate": ("exporter.commands.calibrate", "collect statistics of a checkpoint's activations for later exports"),
    "sensitivity": ("exporter.commands.sensitivity", "measure how much each number format costs each layer"),
    "families": ("exporter.commands.families", "list the transformers model types and how each one exports"),
    "diagnose": (
        "exporter.commands.diagnose",
        "find the layer and token at which a graph diverges from its source",
    ),
    "inspect": ("exporter.commands.inspect", "show what an artifact holds, what was verified and where it came from"),
    "build": ("runtimes.commands.build", "compile an artifact into TensorRT plans"),
    "generate": ("runtimes.commands.generate", "answer a prompt"),
    "chat": ("runtimes.commands.chat", "talk with a model"),
    "classify": ("runtimes.commands.classify", "label texts with a classifier"),
    "compare": ("benchmarks.commands.compare", "compare artifacts, backends and other engines in speed and quality"),
    "doctor": ("runtimes.commands.doctor", "check what this machine can run and how to fix what it cannot"),
}

# public name -> the package that has it
NAMES = {
    "Engine": "runtimes",
    "ExportRequest": "exporter",
    "GateRejectedError": "exporter.contract.errors",
    "InputError": "exporter.contract.errors",
    "JisuError": "exporter.contract.errors",
    "advise": "exporter",
    "calibrate": "exporter",
    "export": "exporter",
    "load": "runtimes",
    "load_source": "exporter",
    "plan_export": "exporter",
    "register_backend": "runtimes",
    "verify": "exporter",
}

__all__ = [
    "Engine",
    "ExportRequest",
    "GateRejectedError",
    "InputError",
    "JisuError",
    "advise",
    "calibrate",
    "export",
    "load",
    "load_source",
    "main",
    "plan_export",
    "register_backend",
    "verify",
]

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for a program ended by Ctrl-C
BROKEN_PIPE = 141  # 128 + SIGPIPE


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


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
        sys.stdout.write(f"jisu {_version()}\n")
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
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("jisu")
    except importlib.metadata.PackageNotFoundError:
        return "(run from a folder; not installed)"


if __name__ == "__main__":
    sys.exit(main())
