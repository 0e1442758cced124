"""Asks other implementations about tiny models of many families, and keeps where they diverge.

    python -m benchmarks.studies.second_opinions gguf --python build/llama-cpp/bin/python    # all architectures
    python -m benchmarks.studies.second_opinions folder                                      # all model types
    python -m benchmarks.studies.second_opinions folder llama qwen3                          # these only
    python -m benchmarks.studies.second_opinions folder --loaded                             # without exporting
    python -m benchmarks.studies.second_opinions --render                                    # the document alone

A GGUF file is compared as it is loaded, with the settings of each of its variants; a folder is exported, and what a
user would run is compared, greedy generation included. Each runs in a process of its own. The table is written after
each, and one that is there already keeps the lines that are not measured anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.studies.gguf_architectures import architectures
from jisu.benchmarks.studies.gguf_writing import byte_level_vocabulary, write_gguf

if TYPE_CHECKING:
    from jisu.exporter.second_opinion import SecondOpinion

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "benchmarks" / "results" / "second-opinions.json"
DOCS = ROOT / "docs" / "second-opinion-results.md"
LIMIT_SECONDS = 900  # of wall clock for one model; the machine may have other work
_LONGEST = 260
_KINDS = ("gguf", "folder")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one model: ``agrees``, ``diverges``, ``known to differ``, ``refused`` by us, or ``not asked``.

    ``error`` is the largest difference of a logit in standard deviations, ``kl`` the mean divergence in nats.
    """

    kind: str
    name: str
    variant: str
    outcome: str
    implementation: str = ""
    error: float | None = None
    kl: float | None = None
    positions: int | None = None
    detail: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=_KINDS, help="which checkpoints; both when left out")
    parser.add_argument("names", nargs="*", help="architectures or model types; all when none is named")
    parser.add_argument("--python", help="interpreter that has llama-cpp-python (default: this one)")
    parser.add_argument("--loaded", action="store_true", help="compare folders as they are loaded, without an export")
    parser.add_argument("--missing", action="store_true", help="resume an incomplete table")
    parser.add_argument("--table", type=Path, default=TABLE, help="where the figures are kept (%(default)s)")
    parser.add_argument("--render", action="store_true", help="only write the document")
    arguments = parser.parse_args()
    if not arguments.render:
        _import_once()
        examine = {"gguf": _examine_gguf, "folder": _examine_loaded if arguments.loaded else _examine_folder}
        for kind in _KINDS if arguments.kind is None else (arguments.kind,):
            measure(
                kind,
                arguments.names,
                partial(examine[kind], python=arguments.python),
                table=arguments.table,
                missing=arguments.missing,
            )
    DOCS.write_text(render(read_rows(arguments.table)), encoding="utf-8")


def measure(
    kind: str, names: list[str], examine: Callable[[str], list[Row]], *, table: Path, missing: bool = False
) -> None:
    """Measure models of one kind, each in a process of its own, and write the table after each."""
    for name in names or (list(architectures()) if kind == "gguf" else model_types()):
        known = [row for row in read_rows(table) if (row.kind, row.name) != (kind, name)]
        if missing and len(known) < len(read_rows(table)):
            continue
        rows = _apart(examine, kind, name)
        for row in rows:
            error = "" if row.error is None else f" ({row.error:.2g} sd)"
            print(f"{row.name} {row.variant}: {row.outcome}{error} {row.detail}", flush=True)
        table.parent.mkdir(parents=True, exist_ok=True)
        lines = sorted([*known, *rows], key=lambda row: (row.kind, row.name, row.variant != "", row.variant))
        table.write_text("[\n" + ",\n".join(json.dumps(asdict(row)) for row in lines) + "\n]\n", encoding="utf-8")


def model_types() -> list[str]:
    """Those of which a small model is known to pass the gate, the quickest exports first."""
    from jisu.exporter.reports.families import read_families

    passing = [family for family in read_families().families if family.passes]
    return [family.model_type for family in sorted(passing, key=lambda family: family.seconds or 0.0)]


def read_rows(table: Path) -> list[Row]:
    """The rows of a table; none when there is no such file."""
    if not table.exists():
        return []
    return [Row(**row) for row in json.loads(table.read_text(encoding="utf-8"))]


def examine_gguf(name: str, folder: Path, *, python: str | None) -> Iterator[Row]:
    """Write every variant of an architecture, load it, and compare it with llama.cpp."""
    made = architectures()[name]
    for variant in ("", *made.variants):
        path = write_gguf(folder / "model.gguf", made, variant=variant or None)
        row = _row("gguf", name, variant, partial(_ask_about_file, path, python))
        if row.outcome == "diverges" and variant in made.known:
            row = replace(row, outcome="known to differ", detail=made.known[variant])
        yield row


def _ask_about_file(path: Path, python: str | None) -> SecondOpinion:
    from jisu.exporter.second_opinion import ask_about_source
    from jisu.exporter.sources import load_source

    return ask_about_source(load_source(path), python=python)


def examine_folder(name: str, folder: Path) -> Row:
    """Write a small model with a tokenizer, export it, and compare the artifact with plain transformers."""
    from jisu.benchmarks.studies.trace_families import write_model
    from jisu.exporter.pipeline import export
    from jisu.exporter.second_opinion import ask_second_opinion
    from jisu.exporter.sources import load_source

    def ask() -> SecondOpinion:
        artifact = export(folder / "source", folder / "artifact")
        return ask_second_opinion(artifact, load_source(folder / "source"))

    write_model(name, folder / "source")
    _write_tokenizer(folder / "source")
    return _row("folder", name, "", ask)


def examine_loaded(name: str, folder: Path) -> Row:
    """Write a small model with a tokenizer, load it, and compare what was loaded with plain transformers."""
    from jisu.benchmarks.studies.trace_families import write_model

    write_model(name, folder)
    _write_tokenizer(folder)
    return _row("folder", name, "as loaded", partial(_ask_about_file, folder, None))


def render(rows: list[Row]) -> str:
    """The document: how many, and a line for each."""
    text = _HEAD
    for kind, title in (("gguf", "GGUF files and llama.cpp"), ("folder", "Folders and plain transformers")):
        mine = [row for row in rows if row.kind == kind]
        if not mine:
            continue
        counts = Counter(row.outcome for row in mine)
        who = next((row.implementation for row in mine if row.implementation), "nobody")
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        text += (
            f"\n## {title}\n\n{len({row.name for row in mine})} names, {len(mine)} models: {said}. Asked: {who}.\n\n"
        )
        text += "| model | settings | outcome | largest difference, sd | mean KL, nats | what |\n"
        text += "|---|---|---|---|---|---|\n"
        text += "".join(
            f"| {row.name} | {row.variant} | {row.outcome} | {_figure(row.error)} | {_figure(row.kl)} | "
            f"{_escaped(row.detail)} |\n"
            for row in mine
        )
    return text


_HEAD = """# What second opinions said

Small models with random weights, asked as [second-opinion.md](second-opinion.md) describes. GGUF files are written with
settings that are nobody's defaults, and compared as they are loaded; folders are exported in fp32 first, and the
artifact is compared, with its tokenizer and greedy generation, or they are compared as they are loaded, too.
`python -m benchmarks.studies.second_opinions` makes these tables.
"""


def _row(kind: str, name: str, variant: str, ask: Callable[[], SecondOpinion]) -> Row:
    from jisu.exporter.contract.errors import JisuError

    try:
        opinion = ask()
    except JisuError as error:
        ours = "cannot be asked" not in str(error)
        outcome = "refused" if ours else "not asked"
        return Row(kind=kind, name=name, variant=variant, outcome=outcome, detail=_shortened(str(error)))
    failed = [check for check in opinion.checks if not check.passed]
    return Row(
        kind=kind,
        name=name,
        variant=variant,
        outcome="diverges" if failed else "agrees",
        implementation=opinion.implementation,
        error=max((one.max_logit_error for one in opinion.figures), default=None),
        kl=max((one.mean_kl for one in opinion.figures), default=None),
        positions=sum(one.positions for one in opinion.figures),
        detail=_shortened(
            "; ".join(f"{check.name.removeprefix('second-opinion-')}: {check.detail}" for check in failed)
        ),
    )


def _examine_gguf(name: str, *, python: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return list(examine_gguf(name, Path(folder), python=python))


def _examine_folder(name: str, *, python: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [examine_folder(name, Path(folder))]


def _examine_loaded(name: str, *, python: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [examine_loaded(name, Path(folder))]


def _apart(examine: Callable[[str], list[Row]], kind: str, name: str) -> list[Row]:
    """The rows that a process of its own finds; one that says how it ended when it finds none."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            theirs.send(examine(name))
        except Exception as error:  # noqa: BLE001 - what is wrong with one model is its line
            said = _shortened(f"{type(error).__name__}: {error}")
            theirs.send([Row(kind=kind, name=name, variant="", outcome="failed", detail=said)])

    process = context.Process(target=work)
    process.start()
    theirs.close()
    try:
        if ours.poll(LIMIT_SECONDS):
            return list(ours.recv())
        detail = f"It took longer than {LIMIT_SECONDS} s."
    except EOFError:
        process.join()
        ended = -(process.exitcode or 0)
        detail = f"Its process was ended by {signal.Signals(ended).name if ended > 0 else 'itself'}."
    finally:
        process.kill()
        process.join()
    return [Row(kind=kind, name=name, variant="", outcome="failed", detail=detail)]


def _import_once() -> None:
    """Load what every process needs before it forks off."""
    import jisu.exporter.pipeline
    import jisu.exporter.second_opinion
    import jisu.exporter.tracing.causal_lm
    import jisu.exporter.tracing.trace  # noqa: F401
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    import_onnxruntime()


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = byte_level_vocabulary()
    pairs = [(left, right) for left, right in (pair.split(" ") for pair in merges)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(str(folder))


def _shortened(text: str) -> str:
    text = re.sub(r"\S*/(model\.gguf|source)", r"\1", " ".join(text.split()))  # where it lay is of no interest
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
