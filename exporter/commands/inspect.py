"""``jisu inspect``: what is in an artifact, what was proved, and where it came from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from exporter.artifact import read_artifact
from exporter.describe import artifact_to_dict, describe_artifact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path, help="a folder written by `jisu export`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--hashes", action="store_true", help="compare every file with its SHA-256, and show them")


def run(arguments: argparse.Namespace) -> int:
    artifact = read_artifact(arguments.artifact, check_hashes=arguments.hashes)
    if arguments.json:
        sys.stdout.write(json.dumps(artifact_to_dict(artifact), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(describe_artifact(artifact, hashes_checked=arguments.hashes))
    return 0
