"""Prompts and texts in a source's own tokens, and which tokens it knows at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import ONE_PASS_KINDS, TEXT_TO_TEXT
from jisu.exporter.sources.tokenizer import chat_prompts

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

TokenIds = npt.NDArray[np.int64]
# Of a text in which more tokens than this share are unknown ones, the model can read nothing.
MOST_UNKNOWN = 0.1


def prompt_tokens(source: Source) -> list[list[int]]:
    """Every prompt that the source can read, in `calibration.text.prompts.varied_prompts`' order; none without a
    tokenizer.

    Questions stand in the chat template where there is one; everything else begins as the tokenizer begins a text.
    """
    from jisu.calibration.text.prompts import varied_prompts

    if source.tokenizer is None:
        return []
    prompts = varied_prompts()
    questions = [prompt.text for prompt in prompts if prompt.way == "chat"]
    rendered = None if source.model_kind == TEXT_TO_TEXT else chat_prompts(source.tokenizer, questions)
    in_template = {} if rendered is None else dict(zip(questions, rendered, strict=True))
    rows = []
    for prompt in prompts:
        special = prompt.text not in in_template
        ids = tokens_of(source, in_template.get(prompt.text, prompt.text), special=special)
        if ids and unknown_share(source, ids) <= MOST_UNKNOWN:
            # An end-of-text token that the tokenizer adds would end what is to be continued.
            while special and source.model_kind != TEXT_TO_TEXT and ids and ids[-1] in source.model.eos:
                ids.pop()
            rows.append(ids)
    return rows


def tokens_of(source: Source, text: str, *, special: bool = False) -> list[int]:
    """The ids of a text that the model has rows for.

    Args:
        special: with the tokens that the tokenizer puts around a text.
    """
    tokenizer: Any = source.tokenizer
    ids = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return [number for number in ids if number < source.model.vocab_size]


def inner_length(source: Source, length: int) -> int:
    """Tokens of text in a window of so many: a classifier's has the special tokens around it, all others none."""
    before, behind = _frame(source)
    return max(1, length - len(before) - len(behind))


def framed(source: Source, windows: TokenIds) -> TokenIds:
    """Windows with what a classifier expects around a text, int64 [n, inner length] -> [n, length]."""
    before, behind = (np.tile(np.asarray(side, np.int64), (len(windows), 1)) for side in _frame(source))
    return np.concatenate([before, windows, behind], axis=1)


def _frame(source: Source) -> tuple[list[int], list[int]]:
    if source.model_kind not in ONE_PASS_KINDS:
        return [], []
    bare, whole = tokens_of(source, "a"), tokens_of(source, "a", special=True)
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def unknown_share(source: Source, ids: list[int]) -> float:
    """Share of the tokens that stand for whatever the tokenizer does not know."""
    unknown = getattr(source.tokenizer, "unk_token_id", None)
    return ids.count(unknown) / len(ids) if ids and unknown is not None else 0.0


def known_tokens(source: Source) -> int:
    """How many ids mean something: a model may have more rows than its tokenizer has tokens."""
    tokenizer: Any = source.tokenizer
    return source.model.vocab_size if tokenizer is None else min(len(tokenizer), source.model.vocab_size)


def first_token(source: Source) -> int | None:
    """The token that a text begins with, or else one that ends texts, after which the next one begins."""
    facts = source.model
    return facts.bos if facts.bos is not None else next(iter(facts.eos), None)


def special_tokens(source: Source) -> list[int]:
    """Ids after which models react most strongly: all special tokens, or those that begin and end texts."""
    tokenizer: Any = source.tokenizer
    facts = source.model
    named = {facts.bos, *facts.eos, facts.pad} if tokenizer is None else set(tokenizer.all_special_ids)
    return sorted(number for number in named if number is not None and number < known_tokens(source))
