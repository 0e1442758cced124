"""``jisu export``: checkpoint in, verified artifact out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.artifact import TARGETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a Hugging Face folder, a GGUF file, or a hub id such as org/name")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifact; must not exist yet")
    parser.add_argument(
        "--target", choices=TARGETS, default="ort-cpu", help="what to lower the graph for (%(default)s)"
    )
    parser.add_argument("--precision", default="fp32", help="number format of the weights (%(default)s)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read .bin and .pt weights, through torch's restricted unpickler",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    from exporter.pipeline import export
    from exporter.stages import Stages

    stages = Stages(verbose=not arguments.quiet)
    artifact = export(
        arguments.checkpoint,
        arguments.out,
        target=arguments.target,
        precision=arguments.precision,
        revision=arguments.revision,
        allow_pickle=arguments.allow_pickle,
        stages=stages,
    )
    if not arguments.quiet:
        checks = artifact.manifest.gate["checks"]
        sys.stderr.write(f"\n{stages.table()}\n\n")
        sys.stdout.write(
            f"{artifact.folder}: {artifact.size / 1e6:.0f} MB, accepted after {len(checks)} checks against the source\n"
        )
    return 0
