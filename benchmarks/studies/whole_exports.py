"""Exports a checkpoint in several ways and records of each what it costs and what the gate says of it.

    python -m benchmarks.studies.whole_exports CHECKPOINT --out FILE.json --work FOLDER \\
        --export "int8: --precision int8" --export "int4: --precision int4 --calibration none" [--threads 1]

Each export is a process of its own, one after another: seconds, and those that cores were busy, which other work on the
machine changes little; the peak memory of all its processes together; the artifact's bytes; and the mean KL divergence
of the gate's worst domain and of all. Limits are loosened, so that a format that the gate would reject is a row.
Rows that the file already has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.2
LOOSE = ("--max-kl", "1000", "--max-confident-changes", "1")


def peak_of_tree(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process and return the most bytes that it and its children held together.

    Of one process that is the kernel's own high-water mark; of several, the largest sum that was sampled.
    """
    marks: dict[int, int] = {}
    largest_sum = 0
    while process.poll() is None:
        held = 0
        for pid in _tree(process.pid):
            status = _status(pid)
            marks[pid] = max(marks.get(pid, 0), status.get("VmHWM", 0))
            held += status.get("VmRSS", 0)
        largest_sum = max(largest_sum, held)
        time.sleep(SAMPLE_SECONDS)
    return max(largest_sum, *marks.values()) if marks else largest_sum


def row_of(folder: Path) -> dict[str, Any]:
    """Bytes, stages and quality of an artifact, accepted or rejected."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    timings = folder / "timings.json"
    stages = json.loads(timings.read_text(encoding="utf-8"))["stages"] if timings.exists() else []
    quality = manifest["gate"]["quality"]
    return {
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "stages": {stage["name"]: stage["seconds"] for stage in stages},
        "stage_peak_bytes": {stage["name"]: stage["peak_bytes"] for stage in stages},
        "worst_domain": quality["worst"],
        "worst_kl": quality["worst_kl"],
        "mean_kl": quality["average_kl"],
        "domains": {domain["name"]: domain["mean_kl"] for domain in quality["domains"] if domain["judges"]},
    }


def table(report: Mapping[str, Any]) -> str:
    """Markdown: a row for each export."""
    lines = ["| export | size | KL, worst domain | KL, mean | time | peak memory |", "|---|---|---|---|---|---|"]
    for name, row in report["rows"].items():
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.0f} MB | {row['worst_kl']:.4f} ({row['worst_domain']}) | "
            f"{row['mean_kl']:.4f} | {row['seconds']:.0f} s | {row['peak_bytes'] / 1e9:.1f} GB |"
        )
    return "\n".join(lines)


def measure(checkpoint: str, options: list[str], folder: Path, *, threads: int) -> dict[str, Any]:
    """Export once; raises RuntimeError with the command's own words when nothing was made."""
    command = [sys.executable, "-m", "jisu", "export", checkpoint, "--out", str(folder), "--quiet", "--no-advice"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    begun, busy = time.perf_counter(), children_seconds()
    with subprocess.Popen([*command, *LOOSE, *options], env=environment) as process:
        peak = peak_of_tree(process)
        code = process.wait()
    seconds, busy = time.perf_counter() - begun, children_seconds() - busy
    made = folder if code == 0 else folder.with_name(f"{folder.name}.rejected")
    if not made.exists():
        raise RuntimeError(f"jisu export ended with {code}: {shlex.join(options)}")
    return {
        "options": options,
        "accepted": code == 0,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "peak_bytes": peak,
        **row_of(made),
    }


def children_seconds() -> float:
    """Seconds that all ended children have kept cores busy, which other processes on the machine do not change much."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(pid: int) -> list[int]:
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _status(pid: int) -> dict[str, int]:
    """Resident bytes of a process by their names in proc(5); nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if name in ("VmRSS", "VmHWM")}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--work", type=Path, required=True, help="folder that the artifacts are written to")
    parser.add_argument("--export", action="append", required=True, metavar="NAME: OPTIONS", help="repeatable")
    parser.add_argument("--threads", type=int, default=1, help="of OpenMP in each export (default: %(default)s)")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, "threads": options.threads, "rows": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    for number, one in enumerate(options.export):
        name, _, words = one.partition(":")
        if name in report["rows"]:
            continue
        folder = options.work / f"export-{number}-{os.getpid()}"
        report["rows"][name] = measure(options.checkpoint, shlex.split(words), folder, threads=options.threads)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{table(report)}\n")


if __name__ == "__main__":
    main()
