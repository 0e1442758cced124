"""Builds plans of artifacts ahead of time and tells what they cost: seconds, and bytes beside the weights' own.

``python -m benchmarks.studies.plans build/trt-fp16 build/trt-int8 --plans plans/ --out plans.json`` writes the figures,
and prints them as a table. A GPU that refuses a precision is a row that says why. Plans that are there are built again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jisu.exporter.contract.artifact import GRAPH, Artifact, read_artifact, weight_files
from jisu.exporter.contract.errors import InputError, JisuError
from jisu.runtimes.backends.tensorrt.build import build_plan, check_artifact, target_of
from jisu.runtimes.backends.tensorrt.library import Capability, Library, check_capabilities, import_library
from jisu.runtimes.backends.tensorrt.packed_plan import unpack_plan
from jisu.runtimes.backends.tensorrt.profiles import default_shapes
from jisu.runtimes.commands.build import capability

BACKEND = "tensorrt-rtx"
TARGETS = ("7.5", "8.6", "8.9", "12.0")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One artifact for one compute capability.

    Attributes:
        kl, top1: of the gate; None where it did not measure them.
        weights, plan, unpacked: bytes; of the file, and of what the library is given. None where it refuses.
        seconds, cpu_seconds: of the build.
        notes: what the build decided by itself, or why there is no plan.
    """

    precision: str
    target: str
    kl: float | None
    top1: float | None
    weights: int
    plan: int | None = None
    unpacked: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    notes: str = ""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.plans", description=__doc__)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="folders exported for tensorrt")
    parser.add_argument("--plans", type=Path, required=True, metavar="FOLDER", help="where the plans go, by precision")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    parser.add_argument("--compute-capability", type=capability, nargs="+", metavar="X.Y", help=" ".join(TARGETS))
    arguments = parser.parse_args(words)
    targets = tuple(arguments.compute_capability or map(capability, TARGETS))
    try:
        library = import_library(BACKEND)
        check_capabilities(library, targets)
        artifacts = [read_artifact(folder) for folder in arguments.artifacts]
        for artifact in artifacts:
            check_artifact(artifact)
    except JisuError as error:
        sys.stderr.write(f"benchmarks.studies.plans: error: {error}\n")
        return error.exit_code
    rows: list[Row] = []
    for artifact in artifacts:
        for target in targets:
            rows.append(measure(artifact, library, arguments.plans / artifact.manifest.precision, target))
            if arguments.out is not None:  # as far as it got
                data = {"library": f"{library.name} {library.version}", "rows": [asdict(row) for row in rows]}
                arguments.out.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(rows))
    return 0


def measure(artifact: Artifact, library: Library, folder: Path, target: Capability) -> Row:
    """Build one plan anew; a refusal is a row, too."""
    files = artifact.manifest.files
    values = {check["name"]: check.get("value") for check in artifact.manifest.gate.get("checks", [])}
    row = Row(
        precision=artifact.manifest.precision,
        target=f"{target[0]}.{target[1]}",
        kl=values.get("mean-kl"),
        top1=values.get("top-1"),
        # Few weights lie in the graph itself.
        weights=sum(files[name].size for name in weight_files(files) or (GRAPH,)),
    )
    for old in folder.glob(f"*{target_of(target)}.plan*"):
        old.unlink()
    started = time.process_time()
    shapes = default_shapes(artifact)
    try:
        built = build_plan(artifact, library, folder, target=target_of(target), capability=target, shapes=shapes)
    except InputError as error:
        return replace(row, notes=str(error))
    return replace(
        row,
        plan=built.size,
        unpacked=len(unpack_plan(built.path.read_bytes())),
        seconds=round(built.seconds, 1),
        cpu_seconds=round(time.process_time() - started, 1),
        notes="; ".join(built.notes),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    names = ("precision", "GPU", "mean KL", "top-1", "weights MB", "plan MB", "of the weights", "unpacked", "seconds")
    lines = [f"| {' | '.join(names)} | CPU s |", f"|---|---|{'---:|' * (len(names) - 1)}"]
    for row in rows:
        kl = "" if row.kl is None else f"{row.kl:.2g}"
        top1 = "" if row.top1 is None else f"{row.top1:.3f}"
        start = f"| {row.precision} | {row.target} | {kl} | {top1} | {row.weights / 1e6:.1f} |"
        if row.plan is None or row.unpacked is None:
            lines.append(f"{start} refused | | | | |")
            continue
        sizes = f"{row.plan / 1e6:.1f} | {row.plan / row.weights:.3f} | {row.unpacked / row.weights:.3f}"
        lines.append(f"{start} {sizes} | {row.seconds} | {row.cpu_seconds} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
