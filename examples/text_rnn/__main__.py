"""The command line of the example: each verb is a step, in the order of the list."""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence

from jisu import JisuError

DESCRIPTION = """Trains a small text model in Chinese or English and turns it into a verified engine.

  python -m examples.text_rnn prepare --language zh --task generate --out build/zh/data
  python -m examples.text_rnn train build/zh/data --network lstm --out build/zh/lstm
  python -m examples.text_rnn evaluate build/zh/lstm --data build/zh/data
  python -m examples.text_rnn export build/zh/lstm --data build/zh/data --precision int8 --out build/zh/int8
  python -m examples.text_rnn prompt build/zh/lstm --engine build/zh/int8
"""
# verb, each a module of `commands` -> one line of help
VERBS = {
    "prepare": "texts -> words and a vocabulary",
    "embed": "train word vectors on the prepared texts",
    "train": "prepared data -> a trained model",
    "evaluate": "measure a trained model on the test data",
    "export": "a trained model -> a verified engine",
    "speed": "compare engines with a PyTorch loop",
    "prompt": "type texts and see them continued or labelled",
}
INTERRUPTED = 130
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what a disk says that takes no more


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0, 2 for bad input, 3 when the gate rejects, 130 for Ctrl-C.

    Raises:
        SystemExit: 2 for wrong usage, 0 after --help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m examples.text_rnn",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    modules = {verb: importlib.import_module(f"examples.text_rnn.commands.{verb}") for verb in VERBS}
    for verb, line in VERBS.items():
        modules[verb].add_arguments(verbs.add_parser(verb, help=line, allow_abbrev=False))
    arguments = parser.parse_args(argv)
    try:
        modules[arguments.verb].run(arguments)
    except JisuError as error:
        sys.stderr.write(f"{arguments.verb}: error: {error}\n")
        return error.exit_code
    except OSError as error:
        if error.errno not in FULL:
            raise
        sys.stderr.write(f"{arguments.verb}: error: Writing failed: {error}. Make room, or write elsewhere.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
