"""``jisu compare``: artifacts, backends and other engines side by side, in speed and in quality."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import InputError

if TYPE_CHECKING:
    from benchmarks.candidates import Candidate
    from benchmarks.compare import ComparisonRequest
    from benchmarks.report import Report
    from benchmarks.verdict import Limits

PEER_MODELS = Path("build/peer-models")
PEER_PYTHON = Path("build/peers/bin/python")
REGRESSED = 4
_MATRIX_PROGRESS = "matrix-progress.txt"


def share(text: str) -> float:
    """``10%`` or ``0.1`` -> 0.1; raises what argparse turns into a usage error."""
    number = text.removesuffix("%")
    try:
        return float(number) / 100 if number != text else float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 10% or 0.1") from None


_LIMITS = (
    ("max-slowdown", share, "SHARE", "most loss of decode and prefill speed against the baseline (10%%)"),
    ("max-memory-growth", share, "SHARE", "most growth of the peak memory"),
    ("max-size-growth", share, "SHARE", "most growth of the size on the disk"),
    ("max-kl", float, "NATS", "most mean KL divergence from the source"),
    ("min-top1", share, "SHARE", "least agreement of the most likely token"),
    ("max-ppl-ratio", float, "RATIO", "most perplexity over the source's"),
)


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
    parser.add_argument(
        "--matrix", type=Path, metavar="FILE", help="TOML with models, precisions and backends, instead of artifacts"
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
    limits = parser.add_argument_group("limits; beyond one of them the exit code is 4")
    limits.add_argument("--baseline", type=Path, metavar="FILE", help="report.json to compare with")
    limits.add_argument(
        "--junit", type=Path, metavar="FILE", help="where to write JUnit XML (into the report's folder)"
    )
    for name, kind, letter, text in _LIMITS:
        limits.add_argument(f"--{name}", type=kind, metavar=letter, help=text)
    parser.add_argument("--quiet", action="store_true", help="print nothing but the table and errors")


def run(arguments: argparse.Namespace) -> int:
    from benchmarks.report import read_report, require_plots
    from benchmarks.verdict import Limits
    from exporter.junit import check_place

    limits = Limits(
        max_slowdown=arguments.max_slowdown,
        max_memory_growth=arguments.max_memory_growth,
        max_size_growth=arguments.max_size_growth,
        max_kl=arguments.max_kl,
        min_top1=arguments.min_top1,
        max_perplexity_ratio=arguments.max_ppl_ratio,
    )
    baseline = None if arguments.baseline is None else read_report(arguments.baseline)
    require_plots()
    if arguments.junit is not None:
        check_place(arguments.junit)
    if arguments.matrix is not None:
        return _run_matrix(arguments, limits, baseline)
    return _run_one(arguments, _request(arguments, tuple(arguments.artifacts), arguments.out), limits, baseline)


def _request(arguments: argparse.Namespace, artifacts: tuple[Path, ...], out: Path) -> ComparisonRequest:
    from benchmarks.compare import ComparisonRequest

    return ComparisonRequest(
        artifacts=artifacts,
        out=out,
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


def _run_matrix(arguments: argparse.Namespace, limits: Limits, baseline: Report | None) -> int:
    """One report for each model, in a folder of its own where there are several; those that are there already stay."""
    from benchmarks.compare import threads_of
    from benchmarks.matrix import matrix_candidates, read_matrix
    from benchmarks.report import JSON, prepare_folder

    matrix = read_matrix(arguments.matrix)
    several = len(matrix.models) > 1
    if arguments.artifacts or arguments.peers or (several and (baseline is not None or arguments.junit is not None)):
        raise InputError(
            "A matrix says itself what is compared",
            received="--matrix with artifacts, --peers, or several models and one --baseline or --junit",
            allowed="--matrix alone, or of one model with --baseline and --junit",
            fix="Leave the others out.",
        )
    prepare_folder(arguments.out)
    done = arguments.out / _MATRIX_PROGRESS
    finished = done.read_text(encoding="utf-8").splitlines() if done.is_file() else []
    say = _silent if arguments.quiet else _say
    codes = [0]
    for model in matrix.models:
        out = arguments.out / matrix.labels[model] if several else arguments.out
        if model in finished and (out / JSON).is_file():
            say(f"{model} was compared before the interruption")
            continue
        folders, candidates = matrix_candidates(matrix, model, threads=threads_of(arguments.threads), say=say)
        codes.append(_run_one(arguments, _request(arguments, tuple(folders), out), limits, baseline, candidates))
        with done.open("a", encoding="utf-8") as stream:
            stream.write(f"{model}\n")
    done.unlink(missing_ok=True)
    return max(codes)


def _run_one(
    arguments: argparse.Namespace,
    request: ComparisonRequest,
    limits: Limits,
    baseline: Report | None,
    candidates: list[Candidate] | None = None,
) -> int:
    """Measure, judge, write and print one report."""
    from benchmarks.compare import compare
    from benchmarks.report import write_report
    from benchmarks.report_markdown import render_markdown
    from benchmarks.verdict import judge

    report = compare(request, candidates=candidates, say=_silent if arguments.quiet else _say)
    if baseline is not None or limits.any_is_set:
        report["verdict"] = judge(report, baseline, limits)
    write_report(report, request.out, junit=arguments.junit)
    sys.stdout.write(render_markdown(report))
    if all(row["failure"] is not None for row in report["rows"]):
        raise InputError(
            "Nothing could be measured",
            received="; ".join(f"{row['name']}: {row['failure']}" for row in report["rows"]),
            fix=f"{request.out} has a report of it.",
        )
    return REGRESSED if any(not case["passed"] for case in (report["verdict"] or {"cases": ()})["cases"]) else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _silent(text: str) -> None:
    pass
