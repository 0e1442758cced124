"""``jisu calibrate``: statistics of a checkpoint's activations, to be used by several exports."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jisu.exporter.commands.calibration_argument import add_calibration_argument
from jisu.exporter.commands.checkpoint_arguments import add_checkpoint_arguments
from jisu.exporter.commands.ray_argument import add_ray_argument
from jisu.exporter.quantization.calibration_data import MIX_WINDOWS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder; an interrupted collection there is resumed"
    )
    add_calibration_argument(parser, "--data", statistics=False)
    parser.add_argument(
        "--field", default="text", metavar="NAME", help="column or key of the text (default: %(default)s)"
    )
    parser.add_argument("--windows", type=int, default=MIX_WINDOWS, help="pieces of text (default: %(default)s)")
    parser.add_argument("--window-tokens", type=int, default=256, help="tokens of each piece (default: %(default)s)")
    parser.add_argument(
        "--hessians",
        action="store_true",
        help="also store GPTQ's Hessians, 4 bytes per pair of input features: int4 then does not run the model",
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="TEXT",
        help="text that exports are evaluated on; refused when it overlaps with the calibration text",
    )
    add_ray_argument(parser, what="the windows")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    from jisu.exporter.calibration_run import calibrate
    from jisu.exporter.jobs.stages import Stages

    statistics = calibrate(
        arguments.checkpoint,
        arguments.out,
        data=arguments.data,
        field=arguments.field,
        windows=arguments.windows,
        window_tokens=arguments.window_tokens,
        hessians=arguments.hessians,
        evaluation=arguments.evaluation,
        tokenizer=arguments.tokenizer,
        revision=arguments.revision,
        allow_pickle=arguments.allow_pickle,
        ignore_weights=arguments.ignore_weights,
        adapters=arguments.adapters,
        ray=arguments.ray,
        stages=Stages(verbose=not arguments.quiet),
    )
    if not arguments.quiet:
        if statistics.windows_done < arguments.windows:
            sys.stderr.write(f"The text has {statistics.windows_done} windows, not {arguments.windows}.\n")
        sys.stdout.write(
            f"{statistics.folder}: inputs of {sum(map(len, statistics.groups))} layers over "
            f"{statistics.windows_done} windows; "
            f"use it with `jisu export --calibration {statistics.folder}`\n"
        )
    return 0
