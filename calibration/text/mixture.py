"""How many windows each part of a calibration mixture has, and in which order they come.

Knows numbers only; what the parts are made of is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Part = Literal["own writing", "prompts", "prose", "code", "random tokens", "your text"]
OWN, PROMPTS, PROSE, CODE, RANDOM, YOURS = (
    "own writing",
    "prompts",
    "prose",
    "code",
    "random tokens",
    "your text",
)
# Shares of the windows; a part that a model cannot have leaves its windows to the others in proportion. Measured on
# SmolLM2-135M at 4 bits over translations, sentences of many languages, licences, code and chat: 0.18 nats on average,
# 0.29 on the worst, with three quarters of the model's own writing; 0.29 and 0.55 with English prose alone.
SHARES: dict[str, float] = {OWN: 0.625, PROMPTS: 0.125, PROSE: 0.0625, CODE: 0.125, RANDOM: 0.0625}
# Share of texts that a user adds to the mixture.
YOUR_SHARE = 0.5


def share_windows(total: int, shares: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Windows of each part, ``total`` together where there are so many.

    Args:
        shares: of each part, of any sum.
        available: most windows that a part can have; what it lacks the others make up for.
    """
    counts = {part: 0 for part in shares if available.get(part, 0) and shares[part] > 0}
    total = min(total, sum(available[part] for part in counts))
    for _ in range(total):
        # The part that is furthest behind its share gets the next window.
        open_parts = [part for part in counts if counts[part] < available[part]]
        counts[min(open_parts, key=lambda part: (counts[part] + 0.5) / shares[part])] += 1
    return {part: count for part, count in counts.items() if count}


def interleave_parts(counts: Mapping[str, int]) -> list[str]:
    """The parts in an order of which every piece has them in proportion: users take the first windows, or the last."""
    places = [
        ((number + 0.5) / count, place, part)
        for place, (part, count) in enumerate(counts.items())
        for number in range(count)
    ]
    return [part for _, _, part in sorted(places)]


def take_turns(parts: Sequence[str]) -> list[int]:
    """Places of windows in an order in which their parts take turns, so that the first few are of as many as there are.

    Random tokens, which nobody writes, come last.
    """
    seen: dict[str, int] = {}
    turns = []
    for place, part in enumerate(parts):
        seen[part] = seen.get(part, 0) + 1
        turns.append((part == RANDOM, seen[part], place))
    return [place for _, _, place in sorted(turns)]


def part_weights(parts: Sequence[str]) -> list[float]:
    """How much each window counts so that every part counts alike; 1 on average."""
    share = len(parts) / max(1, len(set(parts)))
    return [share / parts.count(part) for part in parts]
