"""Attempts with a damaged checkpoint: is what would be published another model, and does the file say so?

A checkpoint that answers otherwise is one of three things. Where only numbers of tensors differ, it is another model.
Where it states something new, the same file without that statement is read as well: if it gives the very same answers,
nobody has taken notice of what the file says, and unless the user was told, that is the fault looked for. Whatever else
it states is honoured. What seems to be dropped, and a share of the others, is exported, through the gate, and asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from jisu.benchmarks.robustness.answers import published_answers
from jisu.benchmarks.robustness.attempt import Outcome, attempt
from jisu.benchmarks.robustness.damage import Damage
from jisu.benchmarks.robustness.statements import Place, new_statements, only_numbers, without
from jisu.benchmarks.robustness.tally import Tally

# Every so many-th attempt is exported: of what answers as before or holds other numbers, and of what states something.
EXPORTED, EXPORTED_STATEMENTS = 60, 4


class Publish(Protocol):
    """Exports a checkpoint into a folder and says what the artifact answers; see `published_answers`."""

    def __call__(self, path: Path, out: Path, **options: Any) -> list[Any]: ...


@dataclass(kw_only=True)
class CheckpointDamage(Damage):
    """See `Damage`; ``options`` are those of the export, and ``defaults`` what a statement that is left out means."""

    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    publish: Publish = published_answers
    _published: Outcome | None = None
    _number: int = 0

    def run(self, number: int, tally: Tally) -> None:
        self._number = number
        super().run(number, tally)

    def judged(self, name: str, damaged: bytes, outcome: Outcome, whole: Outcome) -> tuple[str, str]:
        if outcome.ending != "done":
            return outcome.ending, ""
        if outcome.result["answers"] == whole.result["answers"]:
            return self._exported("same answer", every=EXPORTED)
        if only_numbers(name, self.original(name), damaged):
            return self._exported("another model: numbers", every=EXPORTED)
        places = new_statements(name, self.original(name), damaged)
        if places is None:
            return self._exported("another model: no statements", every=EXPORTED_STATEMENTS)
        notes = [note for note in outcome.result["notes"] if note not in whole.result["notes"]]
        unsaid = [one for one in places if not self._said(one, notes) and not self._is_default(one, damaged)]
        if unsaid and self._dropped(name, damaged, unsaid, outcome):
            ending, more = self._exported("published", every=1)
            if ending == "published":
                return "dropped in silence", f"{unsaid} of {name}"
            return ending, more
        if not places:
            return self._exported("another model: states less", every=EXPORTED_STATEMENTS)
        return self._exported("said" if notes else "another model: states it", every=EXPORTED_STATEMENTS)

    def _exported(self, ending: str, *, every: int) -> tuple[str, str]:
        """The ending, or what an export of the same files ended in where it is this attempt's turn."""
        if self._number % every != every - 1:
            return ending, ""
        if ending == "same answer" and self._published is None:
            self._published = self._export(self.path, "whole")
        outcome = self._export(self.place / self.path.name, "published")
        if outcome.ending in ("refused", "rejected"):
            return f"{outcome.ending} by the export", outcome.detail
        if outcome.ending != "done":
            return outcome.ending, f"export: {outcome.detail}"
        if ending == "same answer" and self._published is not None and outcome.result != self._published.result:
            return "other answer", f"{outcome.result} instead of {self._published.result}"[:300]
        return ending, ""

    def _export(self, path: Path, out: str) -> Outcome:
        return attempt(partial(self.publish, path, self.place / out, **self.options), seconds=20 * self.seconds)

    def _dropped(self, name: str, damaged: bytes, places: list[Place], outcome: Outcome) -> bool:
        """Whether the file without these statements gives the very same answers."""
        try:
            control = without(name, damaged, places)
        except (KeyError, IndexError, TypeError):
            return False
        with self.copy_with(name, control) as copy:
            intact = attempt(lambda: self.read(copy), seconds=self.seconds)
        with self.copy_with(name, damaged):
            pass  # for the export that follows
        return intact.ending == "done" and intact.result["answers"] == outcome.result["answers"]

    @staticmethod
    def _said(place: Place, notes: list[str]) -> bool:
        return any(str(key) in note for key in place if isinstance(key, str) for note in notes)

    def _is_default(self, place: Place, damaged: bytes) -> bool:
        """Whether a statement says what its absence means as well."""
        if damaged[:4] == b"GGUF":
            return False
        value, default = json.loads(damaged), self.defaults
        try:
            for key in place:
                value, default = value[key], default[key]
        except (KeyError, IndexError, TypeError):
            return False
        return bool(value == default)
