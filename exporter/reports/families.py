"""Which causal language models of transformers export and pass: a table made once, shipped with the code.

`benchmarks.studies.trace_families` makes it with random weights and small sizes. It is information for a user who
chooses a model; no export reads it, and the gate decides about each model itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jisu.exporter.contract.errors import InputError

TABLE = Path(__file__).with_name("families.json")
Attention = Literal["fused", "standard", "decomposed", "none"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What became of one model type.

    Attributes:
        model_type: as config.json spells it.
        passes: traced, and accepted by the whole gate in float32.
        attention: ``fused`` into GroupQueryAttention, left as the ``standard`` operator, ``decomposed`` as the model
            spells it out, or ``none``; where layers differ, the slowest of them.
        state: kinds of tensors carried from token to token.
        one_token: a prompt runs through it token by token.
        operators: in the graph for ``ort-cpu``, of so many ``layers``.
        worst: largest logit error of the gate, in standard deviations of the logits.
        seconds: of CPU time for the whole export, gate included.
        reason: why it does not pass; one sentence.
    """

    model_type: str
    passes: bool
    attention: Attention | None = None
    state: tuple[str, ...] = ()
    one_token: bool = False
    layers: int | None = None
    operators: int | None = None
    worst: float | None = None
    seconds: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Families:
    """The table, and the version of transformers that it is about."""

    transformers: str
    families: tuple[Family, ...]

    def to_json(self) -> str:
        """One line for each model type, so that a new table differs where it says something else."""
        lines = ",\n".join(f"  {json.dumps(asdict(family), ensure_ascii=False)}" for family in self.families)
        return f'{{"transformers": {json.dumps(self.transformers)}, "families": [\n{lines}\n]}}\n'

    @property
    def passing(self) -> int:
        return sum(family.passes for family in self.families)

    def find(self, model_type: str) -> Family:
        """Raises InputError when the table has no such model type, or it has not been tried."""
        import difflib

        names = [family.model_type for family in self.families]
        if model_type not in names:
            near = ", ".join(difflib.get_close_matches(model_type, names, n=3))
            raise InputError(
                f"The table for transformers {self.transformers} has no causal language model of type {model_type!r}",
                received=model_type,
                allowed=f"one of {len(names)} model types that were tried{f', such as {near}' if near else ''}",
                fix="Look for `model_type` in the checkpoint's config.json. A type that was not tried may pass all the "
                "same: the gate decides about every export. Models that write down speech are on docs/speech.md.",
            )
        return self.families[names.index(model_type)]


def read_families(path: Path = TABLE) -> Families:
    """Read the shipped table."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    families = tuple(Family(**{**entry, "state": tuple(entry["state"])}) for entry in data["families"])
    return Families(transformers=data["transformers"], families=families)
