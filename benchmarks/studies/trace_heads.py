"""Exports a tiny random model of every model type of transformers with every head that reads whole texts.

    python -m benchmarks.studies.trace_heads                                  # all; an hour on two cores
    python -m benchmarks.studies.trace_heads TokenClassification/bert ...     # these only; the others keep their lines
    python -m benchmarks.studies.trace_heads --missing                        # those that the table does not have yet

Each entry runs in a process of its own, which is ended when it takes too long. The table is written after each;
`benchmarks.studies.trace_families --render` writes the document.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.bounded_runs import bounded_runs, import_once
from jisu.benchmarks.studies.random_weights import randomize
from jisu.benchmarks.studies.tiny_configurations import tiny_configuration
from jisu.benchmarks.studies.tried_export import try_export
from jisu.exporter.reports.heads import HEADS, TABLE, Head, Heads, read_heads

LIMIT_SECONDS = 60.0
_TABLES = {
    "SequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "TokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "QuestionAnswering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="HEAD/TYPE", help="all when none is named")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (%(default)s)")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="CPU seconds for each (%(default)s)")
    parser.add_argument("--missing", action="store_true", help="resume an incomplete table")
    arguments = parser.parse_args()
    known = {entry_name(one) for one in read_heads().heads} if arguments.missing and TABLE.exists() else set()
    entries = [name for name in arguments.entries or all_entries() if name not in known]
    measure(entries, jobs=arguments.jobs, limit=arguments.limit)


def all_entries() -> list[str]:
    """Every head of every model type, in transformers' own tables."""
    from transformers.models.auto import modeling_auto

    return [f"{head}/{name}" for head in HEADS for name in sorted(getattr(modeling_auto, _TABLES[head]))]


def entry_name(head: Head) -> str:
    return f"{head.head}/{head.model_type}"


def measure(entries: Sequence[str], *, jobs: int, limit: float) -> None:
    import transformers

    import_once()
    known = {entry_name(one): one for one in read_heads().heads} if TABLE.exists() else {}
    for head in bounded_runs(entries, _examine, _failed, jobs=jobs, limit=limit):
        known[entry_name(head)] = head
        print(f"{entry_name(head)}: {'passes' if head.passes else head.reason} ({head.seconds} s)", flush=True)
        order = sorted(known, key=lambda name: (list(HEADS).index(name.partition("/")[0]), name))
        table = Heads(transformers=transformers.__version__, heads=tuple(known[name] for name in order))
        TABLE.write_text(table.to_json(), encoding="utf-8")


def _examine(entry: str) -> Head:
    with tempfile.TemporaryDirectory() as folder:
        return examine(entry, Path(folder))


def examine(entry: str, folder: Path) -> Head:
    """Make, export and verify one model."""
    head, _, model_type = entry.partition("/")
    tried = try_export(partial(write_model, head, model_type), folder)
    if tried.artifact is None:
        return _failed(entry, tried.reason)
    return Head(model_type=model_type, head=head, passes=True, worst=tried.worst, seconds=tried.seconds)


def write_model(head: str, model_type: str, folder: Path) -> None:
    """Write a small random model without tokenizer; its weights are larger than a fresh model's."""
    import torch
    import transformers

    from jisu.exporter.sources.quiet import quiet_transformers

    torch.manual_seed(0)
    with quiet_transformers():
        config: Any = tiny_configuration(transformers.CONFIG_MAPPING[model_type])
        if not config.is_encoder_decoder and hasattr(config, "is_decoder"):
            config.is_decoder = False  # which the table of decoders tries
        if head in ("SequenceClassification", "TokenClassification"):
            config.num_labels = 3
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config, dtype=torch.float32).eval()
        randomize(model)
        with torch.no_grad():
            model(input_ids=torch.tensor([[5, 6, 7]]))
        model.save_pretrained(str(folder))


def _failed(entry: str, reason: str) -> Head:
    head, _, model_type = entry.partition("/")
    return Head(model_type=model_type, head=head, passes=False, reason=reason)


if __name__ == "__main__":
    main()
