"""``jisu diagnose``: where a graph diverges from the model it was made from."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.exporter.diagnosis import Diagnosis

DIVERGED = 3
_CAPABILITY = (8, 9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # The arrow points from runtimes to exporter; asking who is to run the graph is a look back, here and below.
    from jisu.runtimes.commands.build import capability

    parser.add_argument("artifact", type=Path, help="a folder written by `jisu export`, for any target")
    parser.add_argument(
        "--source", help="checkpoint that the artifact was made from (default: the path in the manifest)"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="tokenizer of a model from a factory")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the smallest failing subgraph (default: ARTIFACT.failing)",
    )
    parser.add_argument(
        "--backend",
        choices=("tensorrt", "tensorrt-rtx"),
        help="find the smallest subgraph that TensorRT refuses instead; needs no source",
    )
    parser.add_argument(
        "--compute-capability", type=capability, metavar="X.Y", help="with --backend: GPU to build for (default: 8.9)"
    )
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="PATH",
        help="with --backend: compare this plan, or the plan in this folder, with its graph on this machine's GPU",
    )
    parser.add_argument("--prompt-tokens", type=int, default=16, metavar="N", help="tokens of the prompt (default: 16)")
    parser.add_argument(
        "--steps", type=int, default=8, metavar="N", help="tokens decoded after it, one at a time (default: 8)"
    )
    parser.add_argument("--allow-pickle", action="store_true", help="also read pickled weights of the source")
    parser.add_argument(
        "--ignore-weights",
        action="append",
        metavar="PATTERN",
        help="tensors of the source to leave out (default: those that the export left out)",
    )
    parser.add_argument("--json", action="store_true", help="print the error of every piece as JSON")


def run(arguments: argparse.Namespace) -> int:
    from jisu.exporter.contract.artifact import check_outside_artifacts
    from jisu.exporter.diagnosis import diagnose

    if arguments.out is not None:
        check_outside_artifacts(arguments.out, option="--out")
    if arguments.backend is None:
        for option in ("plan", "compute_capability"):
            if getattr(arguments, option) is not None:
                name = option.replace("_", "-")
                raise InputError(
                    f"--{name} needs --backend",
                    received=f"--{name} alone",
                    allowed=f"--{name} with --backend",
                    fix="Add --backend, or leave it out.",
                )
    elif arguments.plan is not None:
        if arguments.compute_capability is not None:
            raise InputError(
                "--compute-capability cannot be combined with --plan, which runs on this machine's GPU",
                received="--compute-capability beside --plan",
                allowed="one of them",
                fix="Leave --compute-capability out.",
            )
        return _compare_plan(arguments)
    else:
        return _ask_tensorrt(arguments)
    diagnosis = diagnose(
        arguments.artifact,
        source=arguments.source,
        tokenizer=arguments.tokenizer,
        out=arguments.out,
        prompt=arguments.prompt_tokens,
        steps=arguments.steps,
        allow_pickle=arguments.allow_pickle,
        ignore_weights=arguments.ignore_weights,
    )
    if arguments.json:
        sys.stdout.write(json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(_described(diagnosis))
    return 0 if diagnosis.finding is None else DIVERGED


def _described(diagnosis: Diagnosis) -> str:
    width = max(map(len, diagnosis.pieces))
    lines = [f"{'':{width}}  prompt    worst step", *diagnosis.notes]
    for piece, errors in zip(diagnosis.pieces, diagnosis.errors, strict=True):
        # Graphs that run once have no steps.
        step = "-" if all(math.isnan(error) for error in errors[1:]) else f"{errors[1:].max():.2e}"
        lines.append(f"{piece:{width}}  {errors[0]:.2e}  {step}")
    lines.append("Errors in standard deviations, each piece given what the source gives the piece before it.")
    if any(": " in piece for piece in diagnosis.pieces):
        lines.append("Within the graphs that are named, errors add up from one piece to the next.")
    finding = diagnosis.finding
    if finding is None:
        lines.append("Nothing diverges from the source.")
    else:
        sentence = finding.sentence
        lines.append(sentence[0].upper() + sentence[1:])
        lines += [f"Within it: {finding.operators}.", f"The smallest failing subgraph: {finding.subgraph}"]
    return "\n".join(lines) + "\n"


def _compare_plan(arguments: argparse.Namespace) -> int:
    from jisu.exporter.contract.artifact import read_artifact
    from jisu.runtimes.backends.tensorrt.build import check_artifact
    from jisu.runtimes.backends.tensorrt.opening import find_plans
    from jisu.runtimes.plan_comparison import compare_plan, plan_runner, text_to_compare

    artifact = read_artifact(arguments.artifact)
    check_artifact(artifact)
    library, plans, shapes = find_plans(artifact, name=arguments.backend, plan=arguments.plan)
    comparison = compare_plan(
        artifact,
        plan_runner(library, plans[0], artifact),
        shapes=shapes,
        token_ids=text_to_compare(artifact, arguments.prompt_tokens + arguments.steps),
        prompt=arguments.prompt_tokens,
    )
    if arguments.json:
        sys.stdout.write(json.dumps(comparison.to_dict(), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(comparison.describe()) + "\n")
    return 0 if comparison.first is None else DIVERGED


def _ask_tensorrt(arguments: argparse.Namespace) -> int:
    from jisu.exporter.contract.artifact import read_artifact
    from jisu.runtimes.backends.tensorrt.library import check_capabilities, import_library
    from jisu.runtimes.backends.tensorrt.profiles import default_shapes
    from jisu.runtimes.backends.tensorrt.refusal import find_refusal

    artifact = read_artifact(arguments.artifact, or_rejected=True)
    library = import_library(arguments.backend)
    target = None
    if library.is_rtx or arguments.compute_capability:
        target = arguments.compute_capability or _CAPABILITY
        check_capabilities(library, (target,))
    folder = arguments.out or artifact.folder.with_name(f"{artifact.folder.name}.failing")
    refusal = find_refusal(
        artifact, library, capability=target, shapes=default_shapes(artifact), out=folder / artifact.graph.name
    )
    if refusal.parser is None and refusal.builder is None:
        sys.stdout.write(f"{library.name} accepts the graph and builds it.\n")
        return 0
    lines = [f"{library.name} refuses the graph: {refusal.parser or refusal.builder}"]
    if refusal.subgraph is not None:
        lines += [f"What it refuses: {refusal.operators}.", f"The smallest refused subgraph: {refusal.subgraph}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return DIVERGED
