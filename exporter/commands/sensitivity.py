"""``jisu sensitivity``: which layers of a checkpoint suffer from which format."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from jisu.exporter.commands.calibration_argument import add_calibration_argument
from jisu.exporter.commands.checkpoint_arguments import add_checkpoint_arguments
from jisu.exporter.commands.ray_argument import add_ray_argument

SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="output JSON file; an interrupted measurement there is resumed"
    )
    add_calibration_argument(parser)
    parser.add_argument(
        "--calibration-field", default="text", metavar="NAME", help="column or key of the text (default: %(default)s)"
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="TEXT",
        help="text that exports are evaluated on; refused when it overlaps with the calibration text",
    )
    add_ray_argument(parser, what="the layers")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    from jisu.exporter.gate.evaluation_text import read_evaluation_text
    from jisu.exporter.jobs.output_path import scratch_folder
    from jisu.exporter.jobs.ray_tasks import cluster
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.quantization.calibration_data import (
        MIX_SHARES,
        MIX_WINDOWS,
        prepare_calibration_data,
        write_calibration_data,
    )
    from jisu.exporter.quantization.calibration_texts import calibration_texts
    from jisu.exporter.quantization.sensitivity import check_sensitivity_file, measure_sensitivity, split_windows
    from jisu.exporter.quantization.sensitivity_tasks import measure_parts_on_cluster
    from jisu.exporter.request_checks import refuse_activations
    from jisu.exporter.sources import load_source
    from jisu.exporter.sources.worker_source import task_bytes, worker_source

    stages = Stages(verbose=not arguments.quiet)
    texts = calibration_texts(arguments.calibration, field=arguments.calibration_field)
    held_out = read_evaluation_text(arguments.evaluation)
    with stages.stage("load"):
        source = load_source(
            arguments.checkpoint,
            revision=arguments.revision,
            allow_pickle=arguments.allow_pickle,
            ignore_weights=arguments.ignore_weights,
            adapters=arguments.adapters,
            tokenizer=arguments.tokenizer,
            scratch=scratch_folder(arguments.out),
        )
    refuse_activations(source, what="sensitivity")
    planned = prepare_calibration_data(source, texts, evaluation=held_out.text, windows=MIX_WINDOWS, shares=MIX_SHARES)
    check_sensitivity_file(arguments.out, planned)
    with stages.stage("calibration text"):
        data = write_calibration_data(source, planned, progress=stages.advance)
    measure = partial(measure_sensitivity, source, data, path=arguments.out, progress=stages.advance)
    with stages.stage("sensitivity"):
        if arguments.ray is None:
            sensitivity = measure()
        else:
            named = worker_source(
                arguments.checkpoint,
                tokenizer=arguments.tokenizer,
                revision=arguments.revision,
                allow_pickle=arguments.allow_pickle,
                ignore_weights=arguments.ignore_weights,
                adapters=arguments.adapters,
            )
            shares, memory = split_windows(data), task_bytes(source)
            with cluster(arguments.ray):
                sensitivity = measure(measure=partial(measure_parts_on_cluster, named, shares, memory_bytes=memory))
    if arguments.quiet:
        return 0
    ranked = sorted(sensitivity.units, key=lambda unit: -max(unit.kl.values()))
    sys.stdout.write(f"Mean KL divergence in nats when only this group is quantized, of {len(ranked)} groups\n")
    for unit in ranked[:SHOWN]:
        figures = "  ".join(f"{label} {kl:.2e}" for label, kl in unit.kl.items() if label != "fp32")
        more = f" and {len(unit.names) - 1} more" if len(unit.names) > 1 else ""
        sys.stdout.write(f"  {figures}  {unit.names[0]}{more}\n")
    sys.stdout.write(f"{arguments.out}: use it with `jisu export --max-kl 0.05 --sensitivity {arguments.out}`\n")
    return 0
