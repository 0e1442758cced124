"""``jisu build``: an artifact for TensorRT in, compiled plans out."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import check_outside_artifacts, read_artifact

if TYPE_CHECKING:
    from jisu.runtimes.backends.tensorrt.library import Capability

BACKENDS = ("tensorrt", "tensorrt-rtx")
_NEW_LINE = "\r\x1b[K"  # back to the start of a terminal's line, and clear it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", help="folder that `jisu export --target tensorrt` wrote")
    parser.add_argument("--backend", choices=BACKENDS, required=True, help="library to build plans for")
    parser.add_argument(
        "--compute-capability",
        type=capability,
        nargs="+",
        default=[],
        metavar="X.Y",
        help="tensorrt-rtx only: GPUs to build for ahead of time (default: this machine's)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder for the plans (default: a cache below ~/.cache/jisu)"
    )
    parser.add_argument(
        "--capacity", type=int, metavar="N", help="tokens per row, prompt and answer (default: up to 2048)"
    )
    parser.add_argument(
        "--prompt",
        type=int,
        metavar="N",
        help="longest prompt of one call, or text of an encoder, in tokens (default: 512)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="largest batch (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the plans as one JSON object on standard output")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors, and the object of --json")


def capability(text: str) -> Capability:
    """``8.9`` -> (8, 9); raises what argparse turns into a usage error."""
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability; write it as 8.9")
    return int(match[1]), int(match[2])


def run(arguments: argparse.Namespace) -> int:
    from jisu.runtimes.backends.tensorrt.build import build_plans, check_artifact
    from jisu.runtimes.backends.tensorrt.library import check_capabilities, import_library
    from jisu.runtimes.backends.tensorrt.plan_targets import default_folder, plan_targets
    from jisu.runtimes.backends.tensorrt.profiles import default_shapes

    artifact = read_artifact(arguments.artifact)
    check_artifact(artifact)
    if arguments.out is not None:
        check_outside_artifacts(arguments.out, option="--out")
    library = import_library(arguments.backend)
    capabilities = tuple(dict.fromkeys(arguments.compute_capability))
    check_capabilities(library, capabilities)
    shapes = default_shapes(artifact, capacity=arguments.capacity, prompt=arguments.prompt, batch=arguments.batch)
    folder = arguments.out or default_folder(artifact)
    say = (lambda line: None) if arguments.quiet else _say
    records: list[dict[str, Any]] = []
    for target, one in plan_targets(library, capabilities):
        plans = build_plans(
            artifact,
            library,
            folder,
            target=target,
            capability=one,
            shapes=shapes,
            progress=None if arguments.quiet else _Progress(target),
            say=say,
        )
        for built in plans:
            for note in built.notes:
                say(f"{built.path.name}: {note}")
            records.append({**asdict(built), "path": str(built.path)})
            if not arguments.quiet and not arguments.json:
                how = "already there" if built.reason is None else f"built in {built.seconds:.1f} s"
                sys.stdout.write(f"{built.path}: {built.size / 1e6:.1f} MB, {how}\n")
    if arguments.json:
        sys.stdout.write(json.dumps({"artifact": str(artifact.folder), "plans": records}, ensure_ascii=False) + "\n")
    return 0


class _Progress:
    """One line on a terminal that is written over and over; silent where nobody watches."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._last = ""

    def __call__(self, phase: str, step: int, steps: int) -> None:
        line = f"{self._target}: {phase} {step} of {steps}"
        if sys.stderr.isatty() and line != self._last:
            sys.stderr.write(_NEW_LINE + line)
            self._last = line


def _say(line: str) -> None:
    start = _NEW_LINE if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{line}\n")
