"""The option ``--ray`` of every verb whose work can be cut into tasks."""

from __future__ import annotations

import argparse
from pathlib import Path

from jisu.exporter.jobs.ray_tasks import LOCAL


def add_ray_argument(parser: argparse.ArgumentParser, *, what: str) -> None:
    """``--ray``, ``--ray ADDRESS``; None without it."""
    parser.add_argument(
        "--ray",
        nargs="?",
        type=_address,
        const=LOCAL,
        metavar="ADDRESS",
        help=f"run {what} as tasks on a Ray cluster (default: one on this machine); lost tasks run again",
    )


def _address(text: str) -> str:
    """Refuse what was meant as the argument that comes next."""
    if not text or Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not a cluster address; name files and folders before --ray")
    return text
