"""Which heads of transformers' model types export and pass: a table made once, shipped with the code.

`benchmarks.studies.trace_heads` makes it with random weights and small sizes. Like the table of causal language models,
no export reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("heads.json")
# The classes of transformers, and what a model with one is called.
HEADS = {
    "SequenceClassification": "classifiers, pairs and rerankers",
    "TokenClassification": "taggers",
    "QuestionAnswering": "answers in a text",
    "MaskedLM": "words for masks",
}


@dataclass(frozen=True, kw_only=True)
class Head:
    """What became of one head of one model type.

    Attributes:
        model_type: as config.json spells it.
        head: one of `HEADS`.
        passes: traced, and accepted by the whole gate in float32.
        worst: largest logit error of the gate, in standard deviations of the logits.
        seconds: of CPU time for the whole export, gate included.
        reason: why it does not pass; one sentence.
    """

    model_type: str
    head: str
    passes: bool
    worst: float | None = None
    seconds: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The table, and the version of transformers that it is about."""

    transformers: str
    heads: tuple[Head, ...]

    def to_json(self) -> str:
        """One line for each entry, so that a new table differs where it says something else."""
        lines = ",\n".join(f"  {json.dumps(asdict(head), ensure_ascii=False)}" for head in self.heads)
        return f'{{"transformers": {json.dumps(self.transformers)}, "heads": [\n{lines}\n]}}\n'

    def of(self, head: str) -> tuple[Head, ...]:
        """The entries of one head."""
        return tuple(one for one in self.heads if one.head == head)

    def summary(self, head: str) -> str:
        """How many of the types that were tried pass."""
        listed = self.of(head)
        return f"{sum(one.passes for one in listed)} of {len(listed)}"

    def find(self, model_type: str) -> tuple[Head, ...]:
        """The entries of a model type; none for a type without such heads, or one that was not tried."""
        return tuple(one for one in self.heads if one.model_type == model_type)


def read_heads(path: Path = TABLE) -> Heads:
    """Read the shipped table."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Heads(transformers=data["transformers"], heads=tuple(Head(**entry) for entry in data["heads"]))
