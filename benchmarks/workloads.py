"""What is fed: the shapes that a user's day is made of, as the same token ids for every candidate.

Prompts are text where the model has a tokenizer, another passage in every round (some engines keep what they computed
for the last one), and random ids otherwise. Tokenizing is over before anything is timed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from exporter.errors import InputError

# Characters of a passage for each token wanted; no tokenizer makes longer tokens of English on average.
_CHARACTERS = 8
_REPEAT = "\n\nRepeat the text above, word for word.\n\n"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Prompt and answer in tokens a row, and how many rows; ``grounded``: the prompt asks for its own words again."""

    name: str
    prompt_tokens: int
    new_tokens: int
    batch: int = 1
    grounded: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


WORKLOADS = {
    item.name: item
    for item in (
        Workload(name="short-chat", prompt_tokens=32, new_tokens=64),
        Workload(name="long-prompt", prompt_tokens=512, new_tokens=16),
        Workload(name="long-generation", prompt_tokens=32, new_tokens=128),
        Workload(name="batch-4", prompt_tokens=32, new_tokens=32, batch=4),
        Workload(name="batch-8", prompt_tokens=32, new_tokens=32, batch=8),
        Workload(name="input-grounded", prompt_tokens=256, new_tokens=64, grounded=True),
    )
}


def workloads_named(names: list[str] | None) -> list[Workload]:
    """The workloads of these names in their own order, all when None; raises InputError for an unknown name."""
    unknown = [name for name in names or () if name not in WORKLOADS]
    if unknown:
        raise InputError(
            "There is no such workload",
            received=", ".join(unknown),
            allowed=", ".join(WORKLOADS),
            fix="Choose from these with --workloads.",
        )
    return [item for name, item in WORKLOADS.items() if names is None or name in names]


def prompts_of(
    workload: Workload,
    *,
    trial: int,
    vocab_size: int,
    encode: Callable[[str], list[int]] | None,
    text: str,
) -> list[list[int]]:
    """Token ids of each row for one trial, the same for the same arguments.

    Args:
        encode: text to ids; None draws random ids.
        text: what passages are taken from.
    """
    draw = random.Random(f"{workload.name} {trial}")
    if encode is None:
        return [_random_row(workload, draw, vocab_size) for _ in range(workload.batch)]
    ending = encode(_REPEAT) if workload.grounded else []
    wanted = workload.prompt_tokens - len(ending)
    if wanted < 1:
        ending, wanted = [], workload.prompt_tokens
    rows = []
    for _ in range(workload.batch):
        passage: list[int] = []
        while len(passage) < wanted:
            start = draw.randrange(max(1, len(text) - _CHARACTERS * wanted))
            passage += encode(text[start : start + _CHARACTERS * wanted])
        rows.append(passage[:wanted] + ending)
    return rows


def _random_row(workload: Workload, draw: random.Random, vocab_size: int) -> list[int]:
    """Random ids; of a grounded workload the second half is the first one again."""
    if not workload.grounded:
        return [draw.randrange(vocab_size) for _ in range(workload.prompt_tokens)]
    half = [draw.randrange(vocab_size) for _ in range(workload.prompt_tokens // 2)]
    return (half + half + half[:1])[: workload.prompt_tokens]
