"""Exports a checkpoint as if its weights lay on no grid: what a file of 16 bits gets, from one that had 4 before.

    python -m benchmarks.studies.without_grid CHECKPOINT --out FOLDER --precision int4

All words are those of `jisu export`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from unittest import mock

from jisu.exporter.commands.export import add_arguments, run


def main(words: Sequence[str]) -> int:
    """Export with layers that are rounded anew, whatever grid they lie on; 0 when that was accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    with (
        mock.patch("jisu.exporter.quantization.prepared.keep_grids", lambda source, choice: choice),
        mock.patch("jisu.exporter.quantization.run.grid_choice", lambda source, keep: None),
    ):
        return run(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
