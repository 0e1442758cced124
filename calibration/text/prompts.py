"""Short beginnings in many languages and forms, for a model to go on from: questions for a chat, openings of texts.

Written for this purpose and for no other: what quality is judged on must have none of them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from typing import Literal

import numpy as np

FILE = "prompts.jsonl"
# What an opening is written in when it is no natural language.
FORMAL = ("code", "data")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One line of the file.

    Attributes:
        way: ``chat`` is a user's message, ``opening`` the first words of a text.
        language: its code, such as ``zh-Hant``; ``code`` or ``data`` for what is no natural language.
        form: what kind of text it asks for or begins.
        text: the words.
    """

    way: Literal["chat", "opening"]
    language: str
    form: str
    text: str


@functools.cache
def load_prompts() -> tuple[Prompt, ...]:
    """All of them, in the order of the file."""
    text = resources.files("jisu.calibration.text").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(Prompt(**json.loads(line)) for line in text.split("\n") if line)


def varied_prompts(*, seed: int = 0) -> list[Prompt]:
    """All of them in an order of which every part has English and other languages, questions, openings and code."""
    groups: dict[tuple[str, bool, bool], list[Prompt]] = {}
    for prompt in load_prompts():
        groups.setdefault((prompt.way, prompt.language == "en", prompt.language in FORMAL), []).append(prompt)
    generator = np.random.default_rng(seed)
    shuffled = [[group[index] for index in generator.permutation(len(group))] for group in groups.values()]
    return [prompt for turn in zip_longest(*shuffled) for prompt in turn if prompt is not None]
