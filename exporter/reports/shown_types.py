"""Which model types of transformers that read images or recordings beside texts pass: a table shipped with the code.

`benchmarks.studies.image_families` and `audio_families` make it with random weights and small sizes. Like the table of
causal language models, no export reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("shown_types.json")
# What a prompt holds beside its text.
SHOWN = ("images", "recordings")


@dataclass(frozen=True, kw_only=True)
class ShownType:
    """What became of a model type that reads images or recordings in a prompt.

    Attributes:
        model_type: as config.json spells it.
        shown: one of `SHOWN`.
        result: passes, refused, not made small, not ended in time, or exported for texts alone.
        reason: why it does not pass; empty when it does.
    """

    model_type: str
    shown: str
    result: str
    reason: str

    @property
    def passes(self) -> bool:
        """Accepted by the whole gate as a model that reads them."""
        return self.result == "passes"


def read_shown_types(path: Path = TABLE) -> tuple[ShownType, ...]:
    """Read the shipped table."""
    data: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(ShownType(**entry) for entry in data)


def shown_types_json(results: dict[str, list[dict[str, Any]]]) -> str:
    """The table as it is shipped, a line for each type, of the studies' rows by what was shown."""
    entries = [
        {"model_type": row["type"], "shown": shown, "result": row["result"], "reason": row["why"]}
        for shown in SHOWN
        for row in results[shown]
    ]
    return "[\n" + ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries) + "\n]\n"
