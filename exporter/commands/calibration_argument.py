"""The option that says what a model is calibrated on, the same for every command that calibrates."""

from __future__ import annotations

import argparse

from jisu.exporter.quantization.calibration_texts import MIXTURE, NONE


def add_calibration_argument(
    parser: argparse.ArgumentParser,
    option: str = "--calibration",
    *,
    statistics: bool = True,
    optional: bool = False,
) -> None:
    """Add the option, which may be given several times.

    Args:
        statistics: whether a folder of statistics is taken as well.
        optional: whether the user may say that no text is to be used.
    """
    kinds = "text, JSONL, CSV or dataset" + (", or statistics of `jisu calibrate`" if statistics else "")
    parser.add_argument(
        option,
        action="append",
        metavar="TEXT",
        help=f"what to calibrate on: {kinds}; repeatable. The word {MIXTURE} stands for the built-in "
        "mixture: the model's own writing, prompts in many languages, texts and code of CPython and torch, random "
        f"tokens. It is the default, which texts replace unless {option} {MIXTURE} is there as well"
        + (f"; {NONE} rounds int8 and int4 without any text" if optional else ""),
    )
