"""One step of a recipe, and the record of what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Expect = Literal["any", "reported", "once", "all"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass of a recipe.

    ``expect`` says what is an error: ``any`` nothing; ``once`` not to fire at all; ``all`` to leave one of the places
    that the pass itself counts beforehand (`count_places` in its file) as it is. ``reported`` leaves them with a note
    to the user: for fusions without which a graph is slower and just as right, whose places models write in ways that
    nobody has seen yet. ``changes_signature`` marks the lowerings that exchange the graph's inputs.

    ``reads`` names those attributes of the context (`exporter.passes.run_recipe.PassContext`) that the pass takes as
    keyword arguments, and ``counting_reads`` those that `count_places` and `note` of its file take: all of them, since
    no pass has a default for one.
    """

    name: str
    expect: Expect = "any"
    changes_signature: bool = False
    reads: tuple[str, ...] = ()
    counting_reads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a pass did: how many places it changed, how many it might have, and the seconds it took.

    ``note`` says in words what it left as it was, and why. ``graph`` tells of which graph, where there are two.
    """

    name: str
    count: int
    possible: int | None
    seconds: float
    note: str | None = None
    graph: str | None = None

    @property
    def missed(self) -> int:
        """Places that the pass might have changed and left."""
        return max((self.possible or 0) - self.count, 0)

    def to_dict(self) -> dict[str, Any]:
        """Without the time, so that the same export writes the same manifest."""
        record: dict[str, Any] = {"pass": self.name, "count": self.count}
        more = {"candidates": self.possible, "note": self.note, "graph": self.graph}
        return record | {key: value for key, value in more.items() if value is not None}
