"""The option ``--ray`` of every verb whose work can be cut into tasks."""

from __future__ import annotations

import argparse

from exporter.cluster import LOCAL


def add_ray_argument(parser: argparse.ArgumentParser, *, what: str) -> None:
    """``--ray``, ``--ray ADDRESS``; None without it."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help=f"run {what} as tasks on a Ray cluster (one on this machine), where a task that is lost is run again",
    )
