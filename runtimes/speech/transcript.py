"""What a recording became: its text, its segments and how it was read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a recording that was said in one go; ``start`` and ``end`` in seconds from its beginning.

    ``token_ids`` are those of a model that writes tokens, its times included.
    """

    start: float
    end: float
    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A recording written down.

    ``language`` is the one asked for or found out, None where the model knows none. ``seconds`` is how long the
    recording is, and ``compute_seconds`` how long the model took.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    seconds: float
    compute_seconds: float

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of all segments."""
        return tuple(token for segment in self.segments for token in segment.token_ids)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON writes it."""
        return {
            **asdict(self),
            "segments": [{**asdict(one), "token_ids": list(one.token_ids)} for one in self.segments],
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)
