"""Exports a tiny random model of every causal language model type of transformers, and keeps what came out.

    python -m benchmarks.studies.trace_families                       # all types; an hour on two cores
    python -m benchmarks.studies.trace_families llama falcon          # these only; the others keep their lines
    python -m benchmarks.studies.trace_families --missing             # those that the table does not have yet
    python -m benchmarks.studies.trace_families --render              # docs/families.md from the table as it is

Each type runs in a process of its own, which is ended when it takes too long. The table is written after each.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.bounded_runs import bounded_runs, import_once
from jisu.benchmarks.studies.random_weights import randomize
from jisu.benchmarks.studies.tiny_configurations import tiny_configuration
from jisu.benchmarks.studies.tried_export import try_export
from jisu.exporter.reports.families import TABLE, Families, Family, read_families
from jisu.exporter.reports.heads import HEADS, Heads, read_heads

DOCS = Path(__file__).resolve().parents[2] / "docs" / "families.md"
LIMIT_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="model types; all when none is named")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (%(default)s)")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="CPU seconds for each (%(default)s)")
    parser.add_argument("--missing", action="store_true", help="resume an incomplete table")
    parser.add_argument("--render", action="store_true", help="only write the document")
    arguments = parser.parse_args()
    if not arguments.render:
        known = {family.model_type for family in read_families().families} if arguments.missing else set()
        measure(
            [name for name in arguments.types or all_types() if name not in known],
            jobs=arguments.jobs,
            limit=arguments.limit,
        )
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(render(read_families(), read_heads()), encoding="utf-8")


def all_types() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def measure(types: Sequence[str], *, jobs: int, limit: float) -> None:
    import transformers

    import_once()
    known = {family.model_type: family for family in read_families().families} if TABLE.exists() else {}
    for family in bounded_runs(types, _examine, _failed, jobs=jobs, limit=limit):
        known[family.model_type] = family
        print(f"{family.model_type}: {'passes' if family.passes else family.reason} ({family.seconds} s)", flush=True)
        table = Families(transformers=transformers.__version__, families=tuple(known[name] for name in sorted(known)))
        TABLE.write_text(table.to_json(), encoding="utf-8")


def _examine(model_type: str) -> Family:
    with tempfile.TemporaryDirectory() as folder:
        return examine(model_type, Path(folder))


def examine(model_type: str, folder: Path) -> Family:
    """Make, export and verify one model."""
    tried = try_export(partial(write_model, model_type), folder)
    if tried.artifact is None:
        return _failed(model_type, tried.reason)
    signature = tried.artifact.manifest.signature
    operators = _operators(tried.artifact.graph)
    return Family(
        model_type=model_type,
        passes=True,
        attention=_attention(operators),  # type: ignore[arg-type]
        state=tuple(sorted({spec.kind for spec in signature.state})),
        one_token=signature.takes_one_token,
        layers=tried.written,
        operators=sum(operators.values()),
        worst=tried.worst,
        seconds=tried.seconds,
    )


def write_model(model_type: str, folder: Path) -> int:
    """Write a small random model without tokenizer and return its number of layers.

    Weights are larger than a fresh model's and norms are not all ones, so that one in the wrong place shows.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from jisu.exporter.sources.quiet import quiet_transformers

    torch.manual_seed(0)
    with quiet_transformers():
        config = tiny_configuration(CONFIG_MAPPING[model_type])
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
        randomize(model)
        with torch.no_grad():
            model(input_ids=torch.tensor([[5, 6, 7]]))
        model.save_pretrained(str(folder))
    return int(config.get_text_config().num_hidden_layers)


def _operators(graph: Path) -> Counter[str]:
    import onnx_ir as ir

    return Counter(node.op_type for node in ir.load(graph).graph.all_nodes())


def _attention(operators: Counter[str]) -> str:
    """The slowest form among the layers; a router has a Softmax too, so that one counts only without the others."""
    if operators["Attention"]:
        return "standard"
    if operators["GroupQueryAttention"]:
        return "fused"
    return "decomposed" if operators["Softmax"] else "none"


def _failed(model_type: str, reason: str) -> Family:
    return Family(model_type=model_type, passes=False, reason=reason)


def render(table: Families, heads: Heads) -> str:
    """The document: what passes, then what does not and why; at its end the heads that read whole texts."""
    passing = [family for family in table.families if family.passes]
    failing = [family for family in table.families if not family.passes]
    lines = [
        "# Model types",
        "",
        f"What became of the causal language model types of transformers {table.transformers}: a small model of the",
        "default configuration with random weights is exported for `ort-cpu` in fp32 and has to pass the whole gate.",
        f"{len(passing)} of {len(table.families)} do. Types that are encoders by default are tried as decoders",
        "(`is_decoder`). No export reads this table: support comes from tracing, and the gate decides about every",
        "model, in this table or not. `jisu families` prints it, `python -m benchmarks.studies.trace_families` makes",
        "it, and with `--missing` resumes where it was interrupted.",
        "",
        "Attention is *fused* (`GroupQueryAttention`), the *standard* ONNX operator, or *decomposed* as the model",
        "spells it out. A type without *state* runs the whole text again for each new token, since what it keeps",
        "cannot be carried: slow, and said at the export. *One token*: prompts run through the model token by token.",
        "The error is the gate's largest, in standard deviations of the logits; seconds are CPU time of the",
        "whole export.",
        "",
        "| model type | attention | state | one token | layers | operators | error | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {family.model_type} | {family.attention} | {', '.join(family.state) or 'no'} "
        f"| {'yes' if family.one_token else ''} | {family.layers} | {family.operators} "
        f"| {family.worst:.1e} | {family.seconds:.0f} |"
        for family in passing
    ]
    lines += ["", "## What does not pass", "", "| model type | reason |", "|---|---|"]
    lines += [f"| {family.model_type} | {_cell(family.reason or '')} |" for family in failing]
    return "\n".join([*lines, *_rendered_heads(heads)]) + "\n"


def _rendered_heads(table: Heads) -> list[str]:
    from jisu.benchmarks.studies.trace_heads import all_entries

    entries = all_entries()
    lines = [
        "",
        "## Heads that read whole texts",
        "",
        "The same for the classes of transformers with a head: random weights, no tokenizer, `ort-cpu`, fp32, the",
        "whole gate. `python -m benchmarks.studies.trace_heads` makes the table, and with `--missing` tries the types",
        "that it does not have yet.",
        "",
        "| head | what for | types in transformers | tried | pass | largest error |",
        "|---|---|---|---|---|---|",
    ]
    for head, what in HEADS.items():
        listed = table.of(head)
        worst = max((one.worst for one in listed if one.worst is not None), default=None)
        error = "" if worst is None else f"{worst:.1e}"
        known = sum(entry.startswith(f"{head}/") for entry in entries)
        lines.append(f"| {head} | {what} | {known} | {len(listed)} | {sum(one.passes for one in listed)} | {error} |")
    lines += ["", "Passing: " + "; ".join(_passing(table, head) for head in HEADS if _passing(table, head)) + "."]
    failing = [one for one in table.heads if not one.passes]
    if failing:
        lines += ["", "| model type | head | reason |", "|---|---|---|"]
        lines += [f"| {one.model_type} | {one.head} | {_cell(one.reason or '')} |" for one in failing]
    return [
        *lines,
        "",
        "Types that are shown images or recordings are on the pages of [images](images.md) and [recordings](audio.md),",
        "and `jisu families` has them too. Models that write down speech are on [theirs](speech.md).",
    ]


def _passing(table: Heads, head: str) -> str:
    names = [one.model_type for one in table.of(head) if one.passes]
    return f"{head} of {', '.join(names)}" if names else ""


def _cell(text: str) -> Any:
    # Code in a reason is no link.
    return text.replace("|", "\\|").replace("<", "&lt;").replace("](", "] (")


if __name__ == "__main__":
    main()
