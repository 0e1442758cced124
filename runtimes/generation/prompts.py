"""What a caller may give a model: texts and token ids, told apart and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown


def check_prompt(prompt: object) -> str:
    """The prompt, when it is a text with something in it; raises InputError."""
    if not isinstance(prompt, str):
        raise InputError("This is not a prompt", received=shown(prompt), allowed="a text", fix=_advice(prompt))
    if not prompt.strip():
        raise InputError("The prompt is empty", received=repr(prompt), allowed="some text", fix="Write something.")
    return prompt


def check_prompts(prompts: object) -> list[str]:
    """One text, or each of several; raises InputError for anything else."""
    return [check_prompt(prompt) for prompt in (prompts if is_listed(prompts) else [prompts])]


def check_id_prompts(prompts: object) -> list[list[int]]:
    """Token ids of one or more prompts; raises InputError unless it is a list of lists of whole numbers."""
    rows = [token_ids(row) for row in prompts] if is_listed(prompts) else [None]
    checked = [row for row in rows if row is not None]
    if len(checked) < len(rows):
        raise InputError(
            "These are not prompts of token ids",
            received=shown(prompts),
            allowed="a list with one list of whole numbers for each prompt",
            fix="Give one prompt as [ids], and texts to generate.",
        )
    if not rows:
        raise InputError("There is no prompt", received="an empty list", allowed="one or more", fix="Give a prompt.")
    return checked


def token_ids(value: object) -> list[int] | None:
    """The ids when ``value`` is a flat list of whole numbers, maybe an empty one; else None."""
    if not is_listed(value):
        return None
    ids = [int(item) for item in value if isinstance(item, (int, np.integer)) and not isinstance(item, bool)]
    return ids if len(ids) == len(value) else None


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can write the text: bytes that were no UTF-8 come in as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_listed(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it is a list of things, and not one text."""
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))


def _advice(value: object) -> str:
    inner = value[0] if is_listed(value) and len(value) else value
    if isinstance(inner, Mapping):
        return "Give messages to chat or stream_chat."
    if isinstance(inner, (int, np.integer, np.ndarray)):
        return "Give token ids to generate_ids, one list for each prompt."
    if isinstance(value, bytes):
        return "Decode the bytes first."
    return "Give several texts to generate." if isinstance(inner, str) else "Give a text."
