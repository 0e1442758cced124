"""Where the time of a decode step goes: the seconds of every node of a graph, by its operator.

    python -m benchmarks.compare.operator_times FOLDER THREADS

Prints JSON. ONNX Runtime's own profiler notes the times, which slows every node a little: shares are what counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

STEPS = 32  # decode steps; the first of them is not counted
_KERNEL = "_kernel_time"


def main() -> None:
    folder, threads = sys.argv[1:]
    print(json.dumps(profile(Path(folder), threads=int(threads))))


def measure_operators(folder: Path, *, threads: int, time_limit: float) -> list[dict[str, Any]] | str:
    """Profile an artifact in a process of its own; returns the operators, or why there are none."""
    command = [sys.executable, "-m", "jisu.benchmarks.compare.operator_times", str(folder), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=time_limit)
    except subprocess.TimeoutExpired:
        return f"no profile within {time_limit:g} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"the profile ended with {done.returncode}"])[-1]
    operators: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return operators


def profile(folder: Path, *, threads: int) -> list[dict[str, Any]]:
    """Decode with an artifact of a language model and sum the nodes up; the slowest operator first."""
    import numpy as np

    from jisu.exporter.contract.artifact import read_artifact
    from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend, open_again

    artifact = read_artifact(folder)
    facts = artifact.manifest.model
    with tempfile.TemporaryDirectory(prefix="jisu-profile-") as place:
        session = open_again(artifact.cpu_graph, threads=threads, profile=Path(place) / "profile")
        backend = OrtCpuBackend(
            session, artifact.manifest.signature, vocab_size=facts.vocab_size, max_positions=facts.max_positions
        )
        state = backend.new_state(1, STEPS)
        for step in range(STEPS):
            backend.forward(np.array([[step % facts.vocab_size]]), state)
        events = json.loads(Path(session.get().end_profiling()).read_text(encoding="utf-8"))
        backend.close()
    return operators_of(events)


def operators_of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum a profile up by operator: nodes, seconds of a run, and share of all; each node's first run is left out.

    Args:
        events: of ONNX Runtime's profile: a node's run has ``name``, ``dur`` in microseconds and ``args.op_name``.
    """
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            runs[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e6)
    seconds: dict[str, float] = defaultdict(float)
    nodes: dict[str, int] = defaultdict(int)
    for (operator, _), durations in runs.items():
        counted = durations[1:] or durations
        seconds[operator] += sum(counted) / len(counted)
        nodes[operator] += 1
    whole = sum(seconds.values())
    return [
        {"operator": name, "nodes": nodes[name], "s": value, "share": value / whole if whole else 0.0}
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]


if __name__ == "__main__":
    main()
