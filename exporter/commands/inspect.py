"""``jisu inspect``: what is in an artifact, what was verified, and where it came from."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.artifact import Artifact, read_artifact
from jisu.exporter.reports.describe import artifact_to_dict, describe_artifact
from jisu.exporter.reports.record_field import field_of

if TYPE_CHECKING:
    from jisu.runtimes.placement_report import PlacementReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path, help="a folder written by `jisu export`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--field",
        metavar="PATH",
        help="print one value of it as JSON, such as precision, gate.accepted or gate.checks.prefill-2.value",
    )
    parser.add_argument("--hashes", action="store_true", help="check the SHA-256 of every file and show them")
    parser.add_argument(
        "--backend", metavar="NAME", help="open the artifact on this backend and show what runs each operator"
    )


def run(arguments: argparse.Namespace) -> int:
    artifact = read_artifact(arguments.artifact, check_hashes=arguments.hashes)
    placement = None if arguments.backend is None else _placement(artifact, arguments.backend)
    if arguments.field is not None:
        described = artifact_to_dict(artifact)
        # The manifest's own keys are what one asks for; no need to say where they lie.
        record = {
            **described["manifest"],
            **described,
            **({} if placement is None else {"placement": asdict(placement)}),
        }
        sys.stdout.write(json.dumps(field_of(record, arguments.field), ensure_ascii=False) + "\n")
        return 0
    if arguments.json:
        more = {} if placement is None else {"placement": asdict(placement)}
        sys.stdout.write(json.dumps({**artifact_to_dict(artifact), **more}, indent=2, ensure_ascii=False) + "\n")
        return 0
    sys.stdout.write(describe_artifact(artifact, hashes_checked=arguments.hashes))
    if placement is not None:
        lines = [f"Placement on {placement.backend}", *(f"  {line}" for line in placement.describe())]
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    return 0


def _placement(artifact: Artifact, backend: str) -> PlacementReport:
    # The arrow points from runtimes to exporter; showing what runs a graph is a look back, here.
    from jisu.runtimes.placement_report import placement_report

    return placement_report(artifact, backend)
