"""``jisu compare``: artifacts, backends and other engines side by side, in speed and in quality."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.errors import InputError

PEER_MODELS = Path("build/peer-models")
PEER_PYTHON = Path("build/peers/bin/python")
REGRESSED = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from benchmarks.compare import BACKEND, TIME_LIMIT, TRIALS
    from benchmarks.workloads import WORKLOADS

    parser.add_argument("artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="folders that `jisu export` wrote")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (%(default)s)")
    parser.add_argument(
        "--backends", nargs="+", default=[BACKEND], metavar="NAME", help=f"what runs the artifacts ({BACKEND})"
    )
    parser.add_argument(
        "--peers",
        type=Path,
        nargs="?",
        const=PEER_MODELS,
        metavar="FOLDER",
        help=f"also the models of other engines in it ({PEER_MODELS})",
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=PEER_PYTHON,
        metavar="PYTHON",
        help="of the environment with the other engines (%(default)s)",
    )
    parser.add_argument("--source", metavar="CHECKPOINT", help="what the artifacts were made from, if it was moved")
    parser.add_argument(
        "--workloads", nargs="+", metavar="NAME", help=f"some of {', '.join(WORKLOADS)} (all that fit the model)"
    )
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help="timed runs of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads that compute (one for each core)")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="for loading and for each run of a candidate (%(default)g)",
    )
    parser.add_argument("--no-quality", action="store_true", help="leave out the comparison of predictions")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the table and errors")


def run(arguments: argparse.Namespace) -> int:
    from benchmarks.compare import ComparisonRequest, compare

    request = ComparisonRequest(
        artifacts=tuple(arguments.artifacts),
        out=arguments.out,
        backends=tuple(arguments.backends),
        workloads=None if arguments.workloads is None else tuple(arguments.workloads),
        trials=arguments.trials,
        threads=arguments.threads,
        time_limit=arguments.time_limit,
        source=arguments.source,
        quality=not arguments.no_quality,
        peers=arguments.peers,
        peers_python=arguments.peers_python,
    )
    report = compare(request, say=_silent if arguments.quiet else _say)
    if all(row["failure"] is not None for row in report["rows"]):
        raise InputError(
            "Nothing could be measured",
            received="; ".join(f"{row['name']}: {row['failure']}" for row in report["rows"]),
            fix=f"{request.out} has a report of it.",
        )
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _silent(text: str) -> None:
    pass
