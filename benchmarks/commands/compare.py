"""``jisu compare``: artifacts, backends and other engines side by side, in speed and in quality."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.benchmarks.compare.contestants import Contestant
    from jisu.benchmarks.compare.run import ComparisonRequest
    from jisu.benchmarks.report.schema import Report
    from jisu.benchmarks.report.verdict import Limits

PEER_MODELS = Path("build/peer-models")
PEER_PYTHON = Path("build/peers/bin/python")
REGRESSED = 4
_MATRIX_PROGRESS = "matrix-progress.jsonl"
# What changes nothing in a report; an interrupted matrix resumes whatever they are.
_WITHOUT_EFFECT = ("quiet", "ray", "json")


def share(text: str) -> float:
    """``10%`` or ``0.1`` -> 0.1; raises what argparse turns into a usage error."""
    number = text.removesuffix("%")
    try:
        return float(number) / 100 if number != text else float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write 10% or 0.1") from None


_LIMITS = (
    ("max-slowdown", share, "SHARE", "largest loss of decode or prefill speed against the baseline (default: 10%%)"),
    ("max-memory-growth", share, "SHARE", "largest growth of the peak memory"),
    ("max-size-growth", share, "SHARE", "largest growth of the size on disk"),
    ("max-kl", float, "NATS", "largest mean KL divergence from the source in any domain of held-out text"),
    ("max-kl-mean", float, "NATS", "largest mean KL divergence, averaged over the domains"),
    ("min-top1", share, "SHARE", "smallest agreement in the most likely token in any domain"),
    ("min-cosine", share, "COSINE", "smallest cosine of any vector with the source's; of embedding models"),
    ("min-recall", share, "SHARE", "smallest recall@10 of what the source's vectors or scores rank first"),
    ("min-same-words", share, "SHARE", "smallest share of words that are the source's; of models that hear"),
    ("max-ppl-ratio", float, "RATIO", "largest perplexity as a multiple of the source's in any domain"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jisu.benchmarks.compare.run import BACKEND, TIME_LIMIT, TRIALS
    from jisu.exporter.commands.ray_argument import add_ray_argument

    parser.add_argument("artifacts", type=Path, nargs="*", metavar="ARTIFACT", help="folders that `jisu export` wrote")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: %(default)s)")
    parser.add_argument(
        "--backends", nargs="+", default=[BACKEND], metavar="NAME", help=f"backends to run on (default: {BACKEND})"
    )
    parser.add_argument(
        "--peers",
        type=Path,
        nargs="?",
        const=PEER_MODELS,
        metavar="FOLDER",
        help="also compare other engines, whose models lie in this folder, or in one folder per model "
        f"(default: {PEER_MODELS})",
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=PEER_PYTHON,
        metavar="PYTHON",
        help="interpreter of the environment with the other engines (default: %(default)s)",
    )
    parser.add_argument(
        "--matrix", type=Path, metavar="FILE", help="TOML with models, precisions and backends, instead of artifacts"
    )
    parser.add_argument(
        "--source", metavar="CHECKPOINT", help="checkpoint that the artifacts were made from, if it has moved"
    )
    parser.add_argument(
        "--workloads",
        nargs="+",
        metavar="NAME",
        help=f"{_workload_help()} (default: all that fit the model)",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="recordings of models that hear, images of those that read images (default: made ones)",
    )
    parser.add_argument(
        "--trials", type=int, default=TRIALS, metavar="N", help="timed runs of each workload (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="compute threads (default: one per core)")
    parser.add_argument(
        "--time-limit",
        type=float,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="limit for loading and for each run of a contestant (default: %(default)g)",
    )
    add_ray_argument(parser, what="contestants, and a matrix's exports,")
    parser.add_argument("--no-quality", action="store_true", help="do not compare predictions")
    limits = parser.add_argument_group("limits; the exit code is 4 when one is exceeded")
    limits.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="report.json to compare with, or the folder of reports of several models",
    )
    limits.add_argument(
        "--relative-to",
        metavar="ROW",
        help="row whose speed the others' are compared by, as multiples measured in the same run, such as "
        "'source (torch)'; with --baseline, speed is then judged on another machine, too",
    )
    limits.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML file (default: in the report's folder)")
    for name, kind, letter, text in _LIMITS:
        limits.add_argument(f"--{name}", type=kind, metavar=letter, help=text)
    parser.add_argument(
        "--json", action="store_true", help="print verdict and figures as one JSON object instead of the table"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but the table, or the object, and errors")


def _workload_help() -> str:
    """The workloads of each kind; kinds with the same ones are named together."""
    from jisu.benchmarks.compare.workloads import WORKLOADS

    kinds: dict[str, list[str]] = {}
    for kind, names in WORKLOADS.items():
        kinds.setdefault(", ".join(names), []).append(kind)
    return "; ".join(f"for {', '.join(those)} some of {names}" for names, those in kinds.items())


def run(arguments: argparse.Namespace) -> int:
    from jisu.benchmarks.report.report import require_plots
    from jisu.benchmarks.report.verdict import Limits
    from jisu.exporter.jobs.ray_tasks import cluster
    from jisu.exporter.reports.junit import check_place

    limits = Limits(
        max_slowdown=arguments.max_slowdown,
        max_memory_growth=arguments.max_memory_growth,
        max_size_growth=arguments.max_size_growth,
        max_kl=arguments.max_kl,
        max_average_kl=arguments.max_kl_mean,
        min_top1=arguments.min_top1,
        max_perplexity_ratio=arguments.max_ppl_ratio,
        min_cosine=arguments.min_cosine,
        min_recall=arguments.min_recall,
        min_same_words=arguments.min_same_words,
    )
    require_plots()
    if arguments.junit is not None:
        check_place(arguments.junit, option="--junit")
    with cluster(arguments.ray) if arguments.ray is not None else nullcontext():
        if arguments.matrix is not None:
            return _run_matrix(arguments, limits)
        request = _request(arguments, tuple(arguments.artifacts), arguments.out)
        return _run_one(arguments, request, limits, _baseline(arguments.baseline), junit=arguments.junit)


def _print_result(arguments: argparse.Namespace, report: Report, request: ComparisonRequest) -> None:
    """The table, or one object with what a script wants to know; a matrix prints one of them for each model."""
    from jisu.benchmarks.report.markdown import render_markdown
    from jisu.benchmarks.report.outcome import outcome_of
    from jisu.benchmarks.report.schema import JSON

    if arguments.json:
        outcome = {"report": str(request.out / JSON), **outcome_of(report)}
        sys.stdout.write(json.dumps(outcome, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_markdown(report))


def _baseline(path: Path | None) -> Report | None:
    from jisu.benchmarks.report.report import read_report

    return None if path is None else read_report(path)


def _request(arguments: argparse.Namespace, artifacts: tuple[Path, ...], out: Path) -> ComparisonRequest:
    from jisu.benchmarks.compare.run import ComparisonRequest

    # A cluster's workers have a working folder of their own.
    place = Path.absolute if arguments.ray is not None else Path
    source = arguments.source
    return ComparisonRequest(
        artifacts=tuple(place(path) for path in artifacts),
        out=out,
        backends=tuple(arguments.backends),
        workloads=None if arguments.workloads is None else tuple(arguments.workloads),
        inputs=tuple(place(path) for path in arguments.inputs),
        trials=arguments.trials,
        threads=arguments.threads,
        time_limit=arguments.time_limit,
        source=str(place(Path(source))) if source is not None and Path(source).exists() else source,
        quality=not arguments.no_quality,
        relative_to=arguments.relative_to,
        peers=None if arguments.peers is None else place(arguments.peers),
        peers_python=place(arguments.peers_python),
    )


def _run_matrix(arguments: argparse.Namespace, limits: Limits) -> int:
    """One report for each model, in a folder of its own where there are several; those that are there already stay."""
    from jisu.benchmarks.compare.journal import Journal, sole_run
    from jisu.benchmarks.compare.matrix import check_build_place, matrix_contestants, read_matrix
    from jisu.benchmarks.compare.run import threads_of
    from jisu.benchmarks.report.report import prepare_folder
    from jisu.benchmarks.report.schema import JSON
    from jisu.exporter.jobs.ray_tasks import run_here, run_tasks

    matrix = read_matrix(arguments.matrix)
    if arguments.ray is not None:
        matrix = replace(matrix, build=matrix.build.absolute())
    several = len(matrix.models) > 1
    if arguments.artifacts:
        raise InputError(
            "--matrix already says what to compare",
            received="--matrix with artifacts",
            allowed="--matrix alone",
            fix="Leave the artifacts out.",
        )
    # All that can be wrong with them is seen before anything is exported.
    baselines = {
        model: _baseline(arguments.baseline / matrix.labels[model] / JSON if several else arguments.baseline)
        for model in matrix.models
        if arguments.baseline is not None
    }
    prepare_folder(arguments.out)
    check_build_place(matrix.build)
    settings = {name: value for name, value in vars(arguments).items() if name not in _WITHOUT_EFFECT}
    with sole_run(arguments.out, name=_MATRIX_PROGRESS):
        journal = Journal(arguments.out, [settings, asdict(matrix)], name=_MATRIX_PROGRESS)
        finished = {record["model"]: record["code"] for record in journal.records}
        say = _silent if arguments.quiet else _say
        codes = [0]
        for model in matrix.models:
            label = matrix.labels[model]
            out = arguments.out / label if several else arguments.out
            if model in finished and (out / JSON).is_file():
                say(f"{model} was compared before the interruption")
                codes.append(finished[model])
                continue
            run = run_here if arguments.ray is None else run_tasks
            threads = threads_of(arguments.threads)
            folders, contestants = matrix_contestants(matrix, model, threads=threads, say=say, run=run)
            request = _request(arguments, tuple(folders), out)
            if several and request.peers is not None:
                request = replace(request, peers=request.peers / label)
            junit = arguments.junit
            if several and junit is not None:
                junit = junit.with_name(f"{junit.stem}-{label}{junit.suffix}")
            codes.append(
                _run_one(arguments, request, limits, baselines.get(model), junit=junit, contestants=contestants)
            )
            journal.add({"model": model, "code": codes[-1]})
        journal.remove()
        return max(codes)


def _run_one(
    arguments: argparse.Namespace,
    request: ComparisonRequest,
    limits: Limits,
    baseline: Report | None,
    *,
    junit: Path | None,
    contestants: list[Contestant] | None = None,
) -> int:
    """Measure, judge, write and print one report."""
    from jisu.benchmarks.compare.cluster_comparison import compare_on_cluster
    from jisu.benchmarks.compare.contestants import artifact_contestants
    from jisu.benchmarks.compare.run import compare, kind_of, model_of, threads_of
    from jisu.benchmarks.report.report import write_report
    from jisu.benchmarks.report.verdict import judge

    if contestants is None:
        threads = threads_of(request.threads)
        contestants = artifact_contestants(request.artifacts, request.backends, threads=threads, source=request.source)
    limits.check(model_kind=kind_of(model_of(contestants)), quality=request.quality)
    measure = compare if arguments.ray is None else compare_on_cluster
    report = measure(request, contestants=contestants, say=_silent if arguments.quiet else _say)
    if baseline is not None or limits.any_is_set:
        report["verdict"] = judge(report, baseline, limits)
        for text in report["verdict"]["not_compared"]:
            sys.stderr.write(f"jisu compare: warning: {text}\n")
    write_report(report, request.out, junit=junit)
    _print_result(arguments, report, request)
    if all(row["failure"] is not None for row in report["rows"]):
        raise InputError(
            "Nothing could be measured",
            received=" ".join(f"{row['name']}: {row['failure']}" for row in report["rows"]),
            allowed="at least one row that can be measured",
            fix=f"See the report in {request.out} for each row's failure.",
        )
    return REGRESSED if any(not case["passed"] for case in (report["verdict"] or {"cases": ()})["cases"]) else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _silent(text: str) -> None:
    pass
