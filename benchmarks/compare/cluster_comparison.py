"""`jisu compare --ray`: a task for each contestant on a cluster, and one report of them all.

Each is measured alone, as `benchmarks.compare.run` does, on whichever machine it gets, which nothing else is timed on
at the same time. So its trials are not interleaved with the others', and its row names its machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from jisu.benchmarks.compare.contestants import Contestant
from jisu.benchmarks.compare.journal import Journal, sole_run
from jisu.benchmarks.compare.rounds import Outcome, Say
from jisu.benchmarks.compare.run import (
    ComparisonRequest,
    command_line,
    compare,
    model_of,
    pareto_of,
    row_of,
    settings_of,
    threads_of,
    wanted_workloads,
    who_is_compared,
)
from jisu.benchmarks.report.report import prepare_folder, write_json
from jisu.benchmarks.report.schema import JSON, Report
from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.ray_tasks import Task, run_tasks

CONTESTANTS = "contestants"  # the folder, beside the report, that the workers keep their measurements in
_MEMORY = 1 << 30  # beside the weights: onnxruntime or torch, logits, the state


def compare_on_cluster(
    request: ComparisonRequest,
    *,
    contestants: Sequence[Contestant] | None = None,
    say: Say = lambda text: None,
) -> Report:
    """Measure on the connected cluster and write ``report.json``; arguments and errors are those of `compare`.

    Paths are from the root, and mean the same on every machine.
    """
    if request.relative_to is not None:
        raise InputError(
            "A cluster measures each row alone, so there are no rounds to compare rows by",
            received="--ray with --relative-to",
            allowed="one of the two",
            fix="Leave --ray out.",
        )
    threads = threads_of(request.threads)
    contestants, missing = who_is_compared(request, contestants, threads=threads, say=say)
    prepare_folder(request.out)
    model = model_of(contestants)
    workloads = wanted_workloads(request, model)
    with sole_run(request.out):
        journal = Journal(request.out, settings_of(request, contestants, workloads, threads=threads))
        reports: dict[int, Report] = {record["index"]: record["report"] for record in journal.records}
        waiting = [index for index in range(len(contestants)) if index not in reports]
        tasks = [_task(request, index, contestants[index], model, threads=threads) for index in waiting]
        for place, result in run_tasks(tasks):
            index = waiting[place]
            if isinstance(result, Exception):
                say(f"{contestants[index].name} failed: {result}")
                lost = Outcome(contestant=contestants[index], failure=str(result))
                reports[index] = {"rows": [row_of(lost, workloads, None)]}
                continue
            say(f"{contestants[index].name} is measured")
            reports[index] = result
            journal.add({"index": index, "report": result})
        report = _joined([reports[index] for index in range(len(contestants))], missing)
        write_json(report, request.out / JSON)
        journal.remove()
        shutil.rmtree(request.out / CONTESTANTS, ignore_errors=True)
        return report


def measure_contestant(request: ComparisonRequest, contestant: Contestant, model: Artifact | None) -> Report:
    """The report of one contestant, in a worker; one that was begun by a worker that was lost is resumed."""
    return compare(request, contestants=[contestant], model=model)


def _task(
    request: ComparisonRequest, index: int, contestant: Contestant, model: Artifact | None, *, threads: int
) -> Task:
    alone = replace(request, out=(request.out / CONTESTANTS / f"{index:03d}").resolve(), peers=None, threads=threads)
    return Task(
        name=contestant.name,
        function=measure_contestant,
        arguments=(alone, contestant, model),
        cores=threads,
        # The contestant's weights, and the source that judges it.
        memory_bytes=_MEMORY + 2 * int(contestant.facts.get("size_bytes") or 0),
        timed=True,
    )


def _joined(reports: Sequence[Report], missing: dict[str, str]) -> Report:
    """One report with all rows; what is said of the whole is the first report's that has been made."""
    made = [report for report in reports if "machine" in report]
    if not made:
        raise InputError(
            "Nothing could be measured",
            received=" ".join(f"{row['name']}: {row['failure']}" for report in reports for row in report["rows"]),
            allowed="at least one row that can be measured",
            fix="See the logs of the cluster's workers.",
        )
    rows = [{**row, "machine": report.get("machine")} for report in reports for row in report["rows"]]
    judged = [report for report in made if (report["reference"] or {}).get("description")]
    joined = {**made[0], "command": command_line(), "missing_peers": missing, "rows": rows}
    joined["reference"] = judged[0]["reference"] if judged else made[0]["reference"]
    return {**joined, "pareto": pareto_of(joined)}
