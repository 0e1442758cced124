"""`jisu compare`: contestants in, report out. Each has a process of its own; they are timed interleaved, and judged.

Start reading here. Nothing is rendered and no regression is judged before report.json is written.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant, artifact_contestants
from jisu.benchmarks.compare.feeding import feeder
from jisu.benchmarks.compare.figures import memory_figures, workload_figures
from jisu.benchmarks.compare.inputs import check_inputs, write_inputs
from jisu.benchmarks.compare.journal import Journal, sole_run
from jisu.benchmarks.compare.judging import judge_contestants
from jisu.benchmarks.compare.machine import machine, machine_identity
from jisu.benchmarks.compare.machine_speed import measure_machine_speed
from jisu.benchmarks.compare.memory_traffic import weight_bytes
from jisu.benchmarks.compare.operator_times import measure_operators
from jisu.benchmarks.compare.pareto import pareto_front
from jisu.benchmarks.compare.peer_contestants import peer_contestants
from jisu.benchmarks.compare.read_bandwidth import measure_read_bandwidth
from jisu.benchmarks.compare.relative_speed import check_reference_row, relative_speeds
from jisu.benchmarks.compare.rounds import Outcome, Say, is_timed, measure_rounds, open_processes, restored_outcomes
from jisu.benchmarks.compare.workloads import TEXT_GENERATION, WORKLOADS, Workload, workloads_named
from jisu.benchmarks.report.column import at
from jisu.benchmarks.report.columns import closeness_column, speed_column
from jisu.benchmarks.report.places import own_name, without_places
from jisu.benchmarks.report.report import finite, prepare_folder, write_json
from jisu.benchmarks.report.schema import JSON, KIND, SCHEMA_VERSION, Report
from jisu.exporter.contract.artifact import Artifact, check_outside_artifacts
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.machine.probe import installed_packages

TRIALS = 5
TIME_LIMIT = 300.0
LONGEST = 1e6  # seconds that the system can be asked to wait for an answer
BACKEND = "ort-cpu"


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What a user asks of a comparison.

    ``workloads`` are names, None for all. ``time_limit`` is the most seconds for loading and for each trial of one
    contestant. ``source`` is the checkpoint, where the artifacts' manifests do not name it. ``relative_to`` names the
    row whose speed the others' are multiples of. ``inputs`` are recordings or images, instead of the gate's own.
    ``peers`` is the folder of the models of other engines, ``peers_python`` the interpreter that has these engines.
    """

    artifacts: tuple[Path, ...]
    out: Path
    backends: tuple[str, ...] = (BACKEND,)
    workloads: tuple[str, ...] | None = None
    trials: int = TRIALS
    threads: int = 0
    time_limit: float = TIME_LIMIT
    source: str | None = None
    quality: bool = True
    inputs: tuple[Path, ...] = ()
    relative_to: str | None = None
    peers: Path | None = None
    peers_python: Path | None = None

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise InputError(
                "There is nothing to compare",
                received="no artifact",
                allowed="one artifact or more",
                fix="Name one or more folders that `jisu export` wrote.",
            )
        for name, value, least in (("--trials", self.trials, 1), ("--threads", self.threads, 0)):
            if value < least:
                raise InputError(
                    f"{name} is too small",
                    received=value,
                    allowed=f"{least} or more",
                    fix=f"Correct {name}.",
                )
        if not 0 < self.time_limit <= LONGEST:
            raise InputError(
                "--time-limit is out of range",
                received=self.time_limit,
                allowed=f"seconds above 0, up to {LONGEST:g}",
                fix="Correct --time-limit.",
            )


def compare(
    request: ComparisonRequest,
    *,
    contestants: Sequence[Contestant] | None = None,
    model: Artifact | None = None,
    command: Sequence[str] | None = None,
    say: Say = lambda text: None,
) -> Report:
    """Measure and write ``report.json`` into the request's folder.

    Args:
        contestants: other ones than the request's artifacts.
        model: whose tokenizer and source count for all; that of the first contestant that has one when None.
        command: what was typed, for the report.
        say: reports what is being done.

    Raises:
        InputError: bad options, or no place to write to. A contestant that fails is a row of the report, no error.
    """
    threads = threads_of(request.threads)
    _check_threads(threads)
    contestants, missing = who_is_compared(request, contestants, threads=threads, say=say)
    check_reference_row(request.relative_to, contestants)
    model = model or model_of(contestants)
    workloads = wanted_workloads(request, model)
    check_inputs(request.inputs, model)
    prepare_folder(request.out)
    workloads, skipped = _fitting(workloads, model)
    settings = settings_of(request, contestants, workloads, threads=threads)
    with sole_run(request.out), tempfile.TemporaryDirectory(prefix="jisu-inputs-") as place:
        inputs = write_inputs(request.inputs, model, Path(place))
        journal = Journal(request.out, settings)
        if journal.records:
            say(f"resuming an interrupted run: {len(journal.records)} measurements are there")
        outcomes = restored_outcomes(contestants, journal.records)
        bandwidth = measure_read_bandwidth(threads)
        reference: dict[str, Any] | None = None
        speeds = [measure_machine_speed(threads)]

        def is_needed(outcome: Outcome) -> bool:
            unjudged = request.quality and outcome.quality is None
            return unjudged or not is_timed(outcome, workloads, request.trials)

        with open_processes(
            outcomes, needed=is_needed, time_limit=request.time_limit, journal=journal, say=say
        ) as processes:
            feed = feeder(model, inputs, Path(place))
            measure_rounds(
                outcomes,
                processes,
                workloads,
                feed,
                trials=request.trials,
                journal=journal,
                say=say,
                before_round=lambda: speeds.append(measure_machine_speed(threads)),
            )
            if request.quality and model is not None and any(item.failure is None for item in outcomes.values()):
                reference = judge_contestants(
                    model,
                    outcomes,
                    processes,
                    source=request.source,
                    inputs=inputs,
                    threads=threads,
                    time_limit=request.time_limit,
                    journal=journal,
                    say=say,
                )
        _profile(request, outcomes, threads=threads, journal=journal, say=say)
        report: Report = finite(
            {
                "kind": KIND,
                "schema_version": SCHEMA_VERSION,
                "task": kind_of(model),
                "model": _model_facts(model),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "command": command_line() if command is None else shlex.join(map(own_name, command)),
                "machine": {**machine(), "loops_per_s": statistics.median(speeds)},
                "versions": installed_packages(),
                "settings": {"trials": request.trials, "threads": threads, "time_limit_s": request.time_limit},
                "read_bandwidth_bytes_per_s": bandwidth,
                "workloads": [item.to_dict() for item in workloads],
                "skipped_workloads": skipped,
                "missing_peers": missing,
                "reference": reference,
                "verdict": None,
                "relative_to": request.relative_to,
                "rows": [
                    {**row_of(outcome, workloads, bandwidth), **_relative(request, outcome, outcomes, workloads)}
                    for outcome in outcomes.values()
                ],
            }
        )
        report = without_places(report)
        report["pareto"] = pareto_of(report)
        write_json(report, request.out / JSON)
        journal.remove()
        return report


def _model_facts(model: Artifact | None) -> dict[str, Any] | None:
    """What the report is about: the checkpoint's name without its place, and the model in it; None where unknown."""
    if model is None:
        return None
    facts = model.manifest.model
    name = str(model.manifest.source.get("name") or facts.architecture)
    path = model.manifest.source.get("kind") not in ("hf-hub", "factory")
    return {
        "name": Path(name).name if path else name,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
    }


def _relative(
    request: ComparisonRequest, outcome: Outcome, outcomes: Mapping[str, Outcome], workloads: Sequence[Workload]
) -> dict[str, Any]:
    """The part of a row that says how fast it is beside the reference's; none without a reference."""
    if request.relative_to is None:
        return {}
    return {"relative": relative_speeds(outcome, outcomes[request.relative_to], workloads)}


def command_line() -> str:
    """What was typed, without where the files lie on this machine."""
    name = Path(sys.argv[0]).name
    return shlex.join(["jisu" if name == "__main__.py" else name, *map(own_name, sys.argv[1:])])


def who_is_compared(
    request: ComparisonRequest, contestants: Sequence[Contestant] | None, *, threads: int, say: Say
) -> tuple[list[Contestant], dict[str, str]]:
    """All contestants with the peers, and by the names of the peers that are not there how to get them.

    Args:
        contestants: instead of the request's artifacts on its backends.
    """
    if contestants is None:
        contestants = artifact_contestants(request.artifacts, request.backends, threads=threads, source=request.source)
    check_outside_artifacts(request.out, option="--out")
    if request.peers is None:
        return list(contestants), {}
    if (kind := kind_of(model_of(contestants))) != TEXT_GENERATION:
        raise InputError(
            f"Other engines cannot be compared for {kind}",
            received="--peers",
            allowed=f"it for {TEXT_GENERATION}",
            fix="Leave --peers out.",
        )
    peers, missing = peer_contestants(request.peers, request.peers_python or Path(sys.executable), threads=threads)
    for name, why in missing.items():
        say(f"{name} is left out: {why}")
    return [*contestants, *peers], missing


def model_of(contestants: Sequence[Contestant]) -> Artifact | None:
    """The artifact whose tokenizer and source count for all: the first one that can be used."""
    return next((item.artifact for item in contestants if item.artifact is not None and item.problem is None), None)


def kind_of(model: Artifact | None) -> str:
    """What all contestants are for."""
    return TEXT_GENERATION if model is None else model.manifest.model_kind


def wanted_workloads(request: ComparisonRequest, model: Artifact | None) -> list[Workload]:
    """Those that were asked for, of those for the model's kind; raises InputError for a name of none."""
    names = None if request.workloads is None else list(request.workloads)
    if model is None and names is not None:
        # No artifact can be read, which is what has to be said, whatever they are for.
        kinds = [kind for kind, known in WORKLOADS.items() if set(names) <= set(known)]
        return workloads_named(names, model_kind=kinds[0] if kinds else TEXT_GENERATION)
    return workloads_named(names, model_kind=kind_of(model))


def settings_of(
    request: ComparisonRequest, contestants: Sequence[Contestant], workloads: Sequence[Workload], *, threads: int
) -> dict[str, Any]:
    """Everything that the measurement depends on."""
    return {
        "schema": SCHEMA_VERSION,
        "contestants": [
            [item.name, item.command, dict(item.facts), _files(item.artifact), item.problem] for item in contestants
        ],
        "workloads": [item.to_dict() for item in workloads],
        "settings": [request.trials, threads, request.quality, request.source, *map(_input_key, request.inputs)],
        "versions": installed_packages(),
        "machine": machine_identity(machine()),
    }


def pareto_of(report: Report) -> list[int]:
    """Indices of the rows that no other row beats in speed without losing in closeness to the source."""
    speed, close = (*speed_column(report).path, "median"), closeness_column(report)
    sign = -1.0 if close.better == "high" else 1.0
    points = [(index, at(row, speed), at(row, close.path)) for index, row in enumerate(report["rows"])]
    return pareto_front([(index, fast, sign * value) for index, fast, value in points if None not in (fast, value)])


def threads_of(requested: int) -> int:
    """That many threads; for 0 one for each core that this process may use, see `runtimes.machine.threads`."""
    from jisu.runtimes.machine.threads import usable_threads

    return requested or usable_threads()


def _check_threads(threads: int) -> None:
    """Raise InputError for more threads than this machine can run at a time: they would only wait for each other."""
    cores = os.cpu_count() or 1
    if threads > cores:
        raise InputError(
            "--threads is more than this machine has",
            received=threads,
            allowed=f"1 to {cores}",
            fix="Choose a smaller number.",
        )


def _fitting(workloads: Sequence[Workload], model: Artifact | None) -> tuple[list[Workload], dict[str, str]]:
    """The workloads that the model has positions for, and why the others are left out."""
    facts = model.manifest.model if model is not None else None
    limit = facts.max_positions if facts is not None else None
    fitting, skipped = [], {}
    for item in workloads:
        needed = item.prompt_tokens + item.new_tokens
        if facts is not None and facts.decoder_start is not None:
            # Source and answer have positions of their own, and the answer has its start token besides.
            limits = [(item.prompt_tokens, facts.max_source_positions), (1 + item.new_tokens, facts.max_positions)]
        else:
            limits = [(needed, limit)]
        for needed, limit in limits:
            if limit is not None and needed > limit:
                skipped[item.name] = f"it needs {needed} positions and the model has {limit}"
        if item.name not in skipped:
            fitting.append(item)
    if not fitting:
        raise InputError(
            "No workload fits this model",
            received="; ".join(f"{name}: {why}" for name, why in skipped.items()),
            allowed="a workload that needs no more positions than the model has",
            fix="Choose shorter ones with --workloads.",
        )
    return fitting, skipped


def _profile(
    request: ComparisonRequest, outcomes: Mapping[str, Outcome], *, threads: int, journal: Journal, say: Say
) -> None:
    """Find out where the time goes in the graphs of those that ONNX Runtime ran, once nothing is timed any more."""
    for name, outcome in outcomes.items():
        item = outcome.contestant
        if outcome.failure is not None or outcome.operators is not None:
            continue
        if item.backend != BACKEND or item.artifact is None or kind_of(item.artifact) != TEXT_GENERATION:
            continue
        if item.artifact.manifest.signature.state:
            say(f"profiling {name}")
            outcome.operators = measure_operators(item.artifact.folder, threads=threads, time_limit=request.time_limit)
            journal.add({"contestant": name, "operators": outcome.operators})


def row_of(outcome: Outcome, workloads: Sequence[Workload], bandwidth: float | None) -> dict[str, Any]:
    """A contestant's part of the report; one that failed has no figures, whatever it measured before."""
    item = outcome.contestant
    row: dict[str, Any] = {"name": item.name, "failure": outcome.failure, **item.facts}
    opened = outcome.opened or {}
    row |= {"version": opened.get("version"), "settings": opened.get("settings")}
    if outcome.failure is not None:
        return {**row, "load_s": None, "peak_bytes": None, "measured": {}, "quality": None, "operators": None}
    weights = weight_bytes(item.artifact, str(item.backend)) if item.artifact is not None else None
    return {
        **row,
        "load_s": opened.get("load_seconds"),
        **memory_figures(outcome),
        "measured": {
            workload.name: workload_figures(outcome, workload, weights=weights, bandwidth=bandwidth)
            for workload in workloads
        },
        "quality": outcome.quality,
        "operators": outcome.operators,
    }


def _input_key(path: Path) -> str:
    """What tells one recording or image from another; its path where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return str(path)


def _files(artifact: Artifact | None) -> list[str]:
    return [] if artifact is None else [record.sha256 for record in artifact.manifest.files.values()]
