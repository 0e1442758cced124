"""``jisu verify``: run the gate on an artifact again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path, help="a folder written by `jisu export`")
    parser.add_argument(
        "--source", help="checkpoint that the artifact was made from (default: the path in the manifest)"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="tokenizer of a model from a factory")
    parser.add_argument(
        "--evaluation", type=Path, metavar="TEXT", help="text to measure quality on (default: built-in held-out texts)"
    )
    parser.add_argument("--allow-pickle", action="store_true", help="also read pickled weights of the source")
    parser.add_argument(
        "--ignore-weights",
        action="append",
        metavar="PATTERN",
        help="tensors of the source to leave out (default: those that the export left out)",
    )
    parser.add_argument(
        "--second-opinion",
        action="store_true",
        help="also compare with another implementation of the checkpoint: llama.cpp for a GGUF file, plain "
        "transformers for a folder",
    )
    parser.add_argument(
        "--opinion-python",
        metavar="PYTHON",
        help="Python interpreter that has the other implementation (default: this one)",
    )
    parser.add_argument("--json", action="store_true", help="print the gate's record as JSON")


def run(arguments: argparse.Namespace) -> int:
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.reports.describe_quality import describe_quality
    from jisu.exporter.verification import verify

    stages = Stages(verbose=not arguments.json)
    result = verify(
        arguments.artifact,
        source=arguments.source,
        tokenizer=arguments.tokenizer,
        evaluation=arguments.evaluation,
        allow_pickle=arguments.allow_pickle,
        ignore_weights=arguments.ignore_weights,
        second_opinion=arguments.second_opinion or arguments.opinion_python is not None,
        opinion_python=arguments.opinion_python,
        stages=stages,
    )
    if arguments.json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        for note in result.notes:
            sys.stdout.write(f"{note}\n")
        for check in result.checks:
            sys.stdout.write(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}\n")
        if table := describe_quality(result.to_dict()):
            sys.stdout.write("\n" + "\n".join(table) + "\n")
        if result.second_opinion:
            sys.stdout.write(f"\nsecond opinion: {result.second_opinion['implementation']}\n")
        sys.stdout.write(f"\n{'accepted' if result.accepted else 'REJECTED'}: {result.summary}\n")
    return 0 if result.accepted else 3
