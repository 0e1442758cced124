"""What studies of rounding share: their options, their report, the texts they judge on, and weights that are put back.

The checkpoint runs in torch with weights that were rounded and put back, against itself, as if its file had no grid.
What is chosen is chosen on the development texts (`benchmarks.studies.development_texts`); the gate's are for a last
look. Rows that a report already has are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jisu.benchmarks.studies.development_texts import development_domains
from jisu.benchmarks.studies.weight_formats import Domains, Subject
from jisu.calibration.model.weight_values import OwnValues, set_rounded
from jisu.calibration.text.windows import Windows
from jisu.exporter.gate.domain_tokens import DomainTokens, domain_tokens


def study_parser(description: str) -> argparse.ArgumentParser:
    """The options of every such study."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--texts", choices=("development", "gate"), default="development")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels that development texts are in")
    parser.add_argument("--tokens", type=int, default=256, help="of each domain, about (default: %(default)s)")
    parser.add_argument("--only", default="", help="names of rows, separated by semicolons (default: all)")
    return parser


def open_report(options: argparse.Namespace) -> dict[str, Any]:
    """The report at `--out`, or a new one."""
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, "texts": options.texts, "rows": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
        assert report["texts"] == options.texts, f"{options.out} was measured on other texts"
    return report


def save_report(options: argparse.Namespace, report: Mapping[str, Any]) -> None:
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def is_wanted(name: str, options: argparse.Namespace, report: Mapping[str, Any]) -> bool:
    """Whether a row is asked for and not there yet."""
    only = [part.strip() for part in options.only.split(";") if part.strip()]
    return name not in report["rows"] and (not only or name in only)


def judged_texts(source: Any, options: argparse.Namespace) -> list[DomainTokens]:
    """The development texts, or the gate's."""
    assert source.tokenizer is not None, "texts need a tokenizer"
    if options.texts == "gate":
        return list(domain_tokens(source.tokenizer, source.model.vocab_size).domains)
    return development_domains(source.tokenizer, options.wheels, tokens=options.tokens)


@contextmanager
def judged_domains(source: Any, options: argparse.Namespace) -> Iterator[Domains]:
    """These texts with what the source predicts of them, kept in a folder for a while."""
    with TemporaryDirectory() as folder:
        texts = judged_texts(source, options)
        yield Domains(texts, _subject(source).logits, tokens=options.tokens, folder=Path(folder))


def _subject(source: Any) -> Subject:
    """The source as what is scored, with the weights that it has at the time of a call."""
    return Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))


def score_rounded(source: Any, parts: Mapping[str, Any], domains: Domains) -> dict[str, Any]:
    """Name -> figures of each domain, with rounded weights put back; the module's own are back at the end.

    Args:
        parts: name of a weight -> its `BlockQuantized`.
    """
    own = [OwnValues(source.module.get_parameter(name)) for name in parts]
    try:
        for name, part in parts.items():
            set_rounded(source.module.get_parameter(name), part)
        return domains.score(_subject(source).logits)
    finally:
        for values in own:
            values.restore()
