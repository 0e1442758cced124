"""Tokens that say where a turn begins and ends: only the template may write them, never the text of a message.

A prompt is encoded as ever when no message holds one. Else those that the template wrote are kept, and a second form of
the tokenizer, which does not know the control tokens by their text, reads all the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.chat.data_marks import TracedPrompt
from jisu.runtimes.chat.messages import check_unicode

_FIRST_STAND_IN = 0xF0000  # in a plane for private use, where no mark and hardly any text is


class ControlTokens:
    """The control tokens of one tokenizer.

    Args:
        tokenizer: of the tokenizers package.
        names: texts that are control tokens even where the tokenizer does not call them special.
        ids: the same by their ids, such as the tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, *, names: Iterable[str] = (), ids: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        named, numbered = set(names), set(ids)
        self._ids: dict[str, int] = {
            token.content: number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.content and (token.special or token.content in named or number in numbered)
        }

    @property
    def texts(self) -> tuple[str, ...]:
        """What they are written as, the longest first."""
        return tuple(sorted(self._ids, key=lambda text: (-len(text), text)))

    def encode(self, prompt: TracedPrompt) -> list[int]:
        """Token ids of a prompt, in which only the template's control tokens are such.

        Raises:
            InputError: the text is not Unicode, or it cannot be told or not be written what a message's words become.
        """
        check_unicode([prompt.text])
        encoding = self._tokenizer.encode(prompt.text, add_special_tokens=False)
        spans = list(self._spans(prompt.text, encoding))
        if prompt.unsure and (
            wrong := [text for text in {text for text, _, _ in spans} if _holds(prompt.unsure, text)]
        ):
            raise InputError(
                f"The chat template changes a message in a way that hides who wrote {', '.join(sorted(wrong))}",
                received=shown(prompt.unsure[0]),
                allowed="control tokens in a message only where the template writes the message as it is",
                fix="Take them out of the message.",
            )
        if not any(prompt.is_data(start, end) for _, start, end in spans):
            ids: list[int] = encoding.ids
            return ids
        kept = [(text, start, end) for text, start, end in spans if not prompt.is_data(start, end)]
        return self._encode_apart(prompt.text, kept)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text in which nothing is a control token."""
        check_unicode([text])
        return self._encode_apart(text, [])

    def _spans(self, text: str, encoding: Any) -> Iterable[tuple[str, int, int]]:
        """Control tokens that an encoding has, and where they stand."""
        by_id = {number: name for name, number in self._ids.items()}
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            name = by_id.get(number)
            # A token may take the spaces beside it along, and that for unknown text stands for any.
            at = -1 if name is None else text.find(name, start, end)
            if name is not None and at >= 0:
                yield name, at, at + len(name)

    def _encode_apart(self, text: str, names: Sequence[tuple[str, int, int]]) -> list[int]:
        plain, stand_ins, numbers, unknown = self._plain
        free = {name: stand_in for name, stand_in in stand_ins.items() if stand_in in text}
        if free:
            raise InputError(
                "A message contains private-use characters",
                received=shown(next(iter(free.values()))),
                allowed="characters outside the supplementary private use area A",
                fix="Remove them from the message.",
            )
        pieces, done = [], 0
        for name, start, end in names:
            pieces += [text[done:start], stand_ins[name]]
            done = end
        ids = [
            numbers[number] for number in plain.encode("".join([*pieces, text[done:]]), add_special_tokens=False).ids
        ]
        # What the tokenizer writes for what it has no token for may come of any text.
        controls = {number for number in self._ids.values() if number != unknown}
        expected = [self._ids[name] for name, _, _ in names if self._ids[name] in controls]
        if [number for number in ids if number in controls] != expected:
            raise InputError(
                "A message contains a control token that the tokenizer cannot write as plain text",
                received=shown(text),
                allowed="messages without control tokens for this model",
                fix="Take them out of the message.",
            )
        return ids

    @cached_property
    def _plain(self) -> tuple[Any, Mapping[str, str], Mapping[int, int], int | None]:
        """The tokenizer with stand-ins for the control tokens; these, its ids as real ones, the unknown id."""
        record = json.loads(self._tokenizer.to_str())
        stand_ins = {name: chr(_FIRST_STAND_IN + index) for index, name in enumerate(sorted(self._ids))}
        for token in record["added_tokens"]:
            if token["content"] in stand_ins:
                token.update(content=stand_ins[token["content"]], normalized=False)
        record.update(post_processor=None, truncation=None, padding=None)
        model = record["model"]
        unknown = model.get("unk_id", self._tokenizer.token_to_id(model.get("unk_token") or ""))
        _rename(model, stand_ins)
        plain = type(self._tokenizer).from_str(json.dumps(record))
        originals = {stand_in: name for name, stand_in in stand_ins.items()}
        numbers = {
            number: self._tokenizer.token_to_id(originals.get(text, text))
            for text, number in plain.get_vocab(with_added_tokens=True).items()
        }
        numbers = {number: number if real is None else real for number, real in numbers.items()}
        return plain, stand_ins, numbers, unknown


def turn_markers(prompt: str, tokenizer: Any) -> frozenset[str]:
    """Added tokens in a rendered conversation of harmless words: what a template marks turns with, special or not."""
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    return frozenset(text for text in added if text in prompt and not re.search(r"\s", text) and len(text) > 1)


def _holds(texts: Iterable[str], control: str) -> bool:
    """Whether one of the texts has all characters of a control token in their order: what is left may become one."""
    for text in texts:
        rest = iter(text)
        if all(character in rest for character in control):
            return True
    return False


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Take the control tokens out of what a model of text pieces may find in a text; their ids stay."""
    merges = model.get("merges")
    if merges:  # one part of a text and the next, which would become a control token, or go on from one
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint((*pair, "".join(pair)))]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): number for text, number in vocabulary.items()}
    elif isinstance(vocabulary, list):  # pieces with their scores
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
