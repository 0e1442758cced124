"""What is fed: the shapes that a user's day is made of, as the same token ids for every contestant.

Prompts are text where the model has a tokenizer, another passage in every round (some engines keep what they computed
for the last one), and random ids otherwise. Tokenizing is over before anything is timed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from jisu.exporter.contract.artifact import (
    AUDIO_TEXT,
    CLASSIFICATION,
    EMBEDDING,
    IMAGE_TEXT,
    MODEL_KINDS,
    PER_TOKEN_KINDS,
    SPEECH,
    TEXT_TO_TEXT,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError

TEXT_GENERATION = MODEL_KINDS[0]

# Characters of a passage for each token wanted; no tokenizer makes longer tokens of English on average.
_CHARACTERS = 8
_REPEAT = "\n\nRepeat the text above, word for word.\n\n"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Prompt and answer in tokens a row, and how many rows; ``grounded``: the prompt asks for its own words again.

    A model that reads whole texts reads ``prompt_tokens`` and makes none: of it ``calls`` are timed in each trial.
    One that hears is given the recordings each by itself, or ``joined`` into one: ``hears``.
    One that reads ``images`` or ``recordings`` beside texts is given so many before its prompt.
    """

    name: str
    prompt_tokens: int
    new_tokens: int
    batch: int = 1
    grounded: bool = False
    calls: int = 0
    hears: str = ""
    images: int = 0
    recordings: int = 0

    @property
    def shown(self) -> int:
        """How many images or recordings stand before the prompt."""
        return self.images + self.recordings

    def to_dict(self) -> dict[str, Any]:
        # What generates is described as in the reports of before there were others.
        others = ("calls", "hears", "images", "recordings")
        return {name: value for name, value in asdict(self).items() if name not in others or value}


# Of models that read whole texts: fewer calls of what takes longer.
_WHOLE_TEXTS = (
    Workload(name="short-text", prompt_tokens=16, new_tokens=0, calls=32),
    Workload(name="short-texts-4", prompt_tokens=16, new_tokens=0, batch=4, calls=16),
    Workload(name="short-texts-8", prompt_tokens=16, new_tokens=0, batch=8, calls=16),
    Workload(name="long-text", prompt_tokens=256, new_tokens=0, calls=16),
    Workload(name="long-texts-4", prompt_tokens=256, new_tokens=0, batch=4, calls=8),
    Workload(name="long-texts-8", prompt_tokens=256, new_tokens=0, batch=8, calls=4),
)
_SUITES: dict[ModelKind, tuple[Workload, ...]] = {
    TEXT_GENERATION: (
        Workload(name="short-chat", prompt_tokens=32, new_tokens=64),
        Workload(name="long-prompt", prompt_tokens=512, new_tokens=16),
        Workload(name="long-generation", prompt_tokens=32, new_tokens=128),
        Workload(name="batch-4", prompt_tokens=32, new_tokens=32, batch=4),
        Workload(name="batch-8", prompt_tokens=32, new_tokens=32, batch=8),
        Workload(name="input-grounded", prompt_tokens=256, new_tokens=64, grounded=True),
    ),
    TEXT_TO_TEXT: (
        Workload(name="sentence", prompt_tokens=32, new_tokens=32),
        Workload(name="long-source", prompt_tokens=256, new_tokens=32),
        Workload(name="sentences-4", prompt_tokens=32, new_tokens=32, batch=4),
        Workload(name="sentences-8", prompt_tokens=32, new_tokens=32, batch=8),
    ),
    CLASSIFICATION: _WHOLE_TEXTS,
    # Indexing reads passages, many in one call.
    EMBEDDING: (*_WHOLE_TEXTS, Workload(name="passages-32", prompt_tokens=64, new_tokens=0, batch=32, calls=4)),
    IMAGE_TEXT: (
        Workload(name="image", prompt_tokens=32, new_tokens=32, images=1),
        Workload(name="two-images", prompt_tokens=32, new_tokens=32, images=2),
    ),
    AUDIO_TEXT: (
        Workload(name="recording", prompt_tokens=32, new_tokens=32, recordings=1),
        Workload(name="two-recordings", prompt_tokens=32, new_tokens=32, recordings=2),
    ),
    SPEECH: (
        Workload(name="recordings", prompt_tokens=0, new_tokens=0, hears="one by one"),
        # Longer than a window, as talks are.
        Workload(name="long-recording", prompt_tokens=0, new_tokens=0, hears="joined"),
    ),
    **dict.fromkeys(sorted(PER_TOKEN_KINDS), _WHOLE_TEXTS),
}
# By the kind of the models that they are for, and by name.
WORKLOADS = {kind: {item.name: item for item in items} for kind, items in _SUITES.items()}


def workloads_named(names: list[str] | None, *, model_kind: str = TEXT_GENERATION) -> list[Workload]:
    """The workloads of these names in their own order, all when None; raises InputError for an unknown name."""
    known = {name: item for kind, items in WORKLOADS.items() if kind == model_kind for name, item in items.items()}
    if not known:
        raise InputError(
            f"Models for {model_kind} are not compared yet",
            received=f"artifacts for {model_kind}",
            allowed=", ".join(WORKLOADS),
            fix="Compare artifacts of one of these kinds.",
        )
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(
            f"There is no such workload for {model_kind}",
            received=", ".join(unknown),
            allowed=", ".join(known),
            fix="Choose from these with --workloads.",
        )
    return [item for name, item in known.items() if names is None or name in names]


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
    length = workload.prompt_tokens - len(ending)
    if length < 1:
        ending, length = [], workload.prompt_tokens
    rows = []
    for _ in range(workload.batch):
        passage: list[int] = []
        while len(passage) < length:
            start = draw.randrange(max(1, len(text) - _CHARACTERS * length))
            passage += encode(text[start : start + _CHARACTERS * length])
        rows.append(passage[:length] + ending)
    return rows


def _random_row(workload: Workload, draw: random.Random, vocab_size: int) -> list[int]:
    """Random ids; of a grounded workload the second half is the first one again."""
    if not workload.grounded:
        return [draw.randrange(vocab_size) for _ in range(workload.prompt_tokens)]
    half = [draw.randrange(vocab_size) for _ in range(workload.prompt_tokens // 2)]
    return (half + half + half[:1])[: workload.prompt_tokens]
