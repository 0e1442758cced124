"""``jisu families``: which models of transformers are known to export and to pass, by type, head and what is shown."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from jisu.exporter.contract.errors import InputError
from jisu.exporter.reports.families import Families, Family, read_families
from jisu.exporter.reports.heads import HEADS, Head, Heads, read_heads
from jisu.exporter.reports.shown_types import SHOWN, ShownType, read_shown_types


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_type", nargs="?", help="model type, as in config.json (default: all)")
    parser.add_argument("--failed", action="store_true", help="show only the types that do not pass, with the reason")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    table, heads = read_families(), read_heads()
    name = arguments.model_type
    listed = list(heads.find(name) if name else heads.heads)
    every = read_shown_types()
    shown = [one for one in every if name in (None, one.model_type)]
    try:
        families = [table.find(name)] if name else list(table.families)
    except InputError:
        if not listed and not shown:
            raise
        families = []  # a type that only reads, or that is shown something
    chosen = [family for family in families if not (arguments.failed and family.passes)]
    listed = [head for head in listed if not (arguments.failed and head.passes)]
    shown = [one for one in shown if not (arguments.failed and one.passes)]
    if (warning := stale(table)) is not None:
        sys.stderr.write(f"{warning}\n")
    if arguments.json:
        record = {
            "transformers": table.transformers,
            "families": [asdict(family) for family in chosen],
            "heads": [asdict(head) for head in listed],
            "shown": [asdict(one) for one in shown],
        }
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(describe(table, chosen))
        sys.stdout.write(describe_heads(heads, listed if name or arguments.failed else []))
        sys.stdout.write(describe_shown(every, shown if name or arguments.failed else []))
    return 0


def stale(table: Families) -> str | None:
    """A warning when another transformers than the table's is installed."""
    try:
        installed = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return None
    if installed == table.transformers:
        return None
    return (
        f"This table was made with transformers {table.transformers}; {installed} is installed, whose models may "
        "differ. The gate decides about every export."
    )


def describe(table: Families, chosen: list[Family]) -> str:
    """The chosen lines as text, with a head line for all of them."""
    lines = [
        f"transformers {table.transformers}: {table.passing} of {len(table.families)} causal language models pass."
    ]
    if chosen:
        width = max(len(family.model_type) for family in chosen)
        lines += [f"{family.model_type:{width}}  {_line(family)}" for family in chosen]
    return "\n".join(lines) + "\n"


def describe_heads(table: Heads, chosen: list[Head]) -> str:
    """How many types pass with each head, and the chosen ones line by line."""
    lines = [
        f"{head}, {what}: {table.summary(head)} tried model types pass."
        for head, what in HEADS.items()
        if table.of(head)
    ]
    width = max((len(f"{one.model_type} {one.head}") for one in chosen), default=0)
    for one in chosen:
        verdict = f"passes  error {one.worst:.1e}, {one.seconds:.0f} s" if one.passes else f"no      {one.reason}"
        lines.append(f"{one.model_type + ' ' + one.head:{width}}  {verdict}")
    return "".join(f"{line}\n" for line in lines)


def describe_shown(table: Sequence[ShownType], chosen: Sequence[ShownType]) -> str:
    """How many types that read images or recordings in a prompt pass, and the chosen ones line by line."""
    lines = []
    for shown in SHOWN:
        tried = [one for one in table if one.shown == shown]
        lines.append(f"{shown} in a prompt: {sum(one.passes for one in tried)} of {len(tried)} tried model types pass.")
    width = max((len(f"{one.model_type} {one.shown}") for one in chosen), default=0)
    for one in chosen:
        verdict = one.result if one.passes else f"no      {one.result}: {one.reason}"
        lines.append(f"{one.model_type + ' ' + one.shown:{width}}  {verdict}")
    return "".join(f"{line}\n" for line in lines)


def _line(family: Family) -> str:
    if not family.passes:
        return f"no      {family.reason}"
    state = "+".join(family.state) or "none"
    tokens = ", one token at a time" if family.one_token else ""
    return (
        f"passes  attention {family.attention}, state {state}{tokens}; {family.operators} operators in {family.layers} "
        f"layers, error {family.worst:.1e}, {family.seconds:.0f} s"
    )
