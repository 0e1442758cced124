"""Text and token ids: the artifact's tokenizer, and decoding one token at a time without breaking a character."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.prompts import is_unicode

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
# What a decoder puts where bytes do not make a character, or not yet.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Prompt tokens decoded before the first new one, so that spaces and characters join as they would in one text.
CONTEXT = 5
_LONGEST_CHARACTER = 4  # bytes, in UTF-8


def check_unicode(text: str) -> None:
    """Raise InputError for a text with lone surrogates, which no tokenizer takes."""
    if not is_unicode(text):
        raise InputError(
            "The text is not Unicode",
            received=shown(text),
            allowed="text that UTF-8 can write; lone surrogates stand for bytes that were no UTF-8",
            fix="Correct the text, or convert it to UTF-8.",
        )


class TextCodec:
    """Encodes and decodes with the tokenizer of an artifact."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer itself, of the tokenizers package."""
        return self._tokenizer

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Token ids of a text; ``special_tokens`` lets the tokenizer add its own, such as one for the beginning.

        Raises:
            InputError: the text holds lone surrogates, which no tokenizer takes.
        """
        check_unicode(text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special_tokens).ids
        return ids

    def encode_rows(
        self, texts: Sequence[str], *, limit: int | None, truncate: bool, first: int = 0
    ) -> list[list[int]]:
        """Token ids of texts that a model reads as a whole, special tokens included.

        Args:
            limit: most tokens of a text; None for any number.
            truncate: cut a text that has more off at its end.
            first: number of the first text, for the error.

        Raises:
            InputError: a text that is too long, unless it may be cut off.
        """
        rows = [self.encode(text, special_tokens=True) for text in texts]
        for index, text in enumerate(texts):
            if limit is None or len(rows[index]) <= limit:
                continue
            if not truncate:
                raise InputError(
                    "A text is too long for the model",
                    # With the text: its number counts from the beginning of the call, which is a part of a file.
                    received=f"{len(rows[index])} tokens in text {first + index}, {shown(text)}",
                    allowed=f"at most {limit}",
                    fix="Shorten it, or cut it off: truncate=True, or --truncate.",
                )
            rows[index] = self.encode_start(text, limit)
        return rows

    def count_before_text(self, prompt: str) -> int:
        """Tokens of a prompt before a text, special ones at its beginning included.

        They are counted as sentence-transformers counts them: those of the prompt alone without spaces around it, less
        a special one at its end.
        """
        encoding = self._tokenizer.encode(prompt.strip(), add_special_tokens=True)
        return len(encoding.ids) - (1 if encoding.special_tokens_mask[-1:] == [1] else 0)

    def encoding(self, text: str, *, limit: int) -> Any:
        """A text as the tokenizers package encodes it, with special tokens and the places of its tokens.

        Args:
            limit: tokens that are kept, special ones included.
        """
        check_unicode(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=True)
        if len(encoding.ids) > limit:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            encoding.truncate(max(0, limit - self._tokenizer.num_special_tokens_to_add(is_pair=False)))
            encoding = self._tokenizer.post_process(encoding, None, add_special_tokens=True)
        return encoding

    def encode_start(self, text: str, limit: int) -> list[int]:
        """Like `encode` with special tokens, of as much of the text's beginning as ``limit`` tokens have room for."""
        whole = self._tokenizer.encode(text, add_special_tokens=False)
        whole.truncate(max(0, limit - self._tokenizer.num_special_tokens_to_add(is_pair=False)))
        ids: list[int] = self._tokenizer.post_process(whole, None, add_special_tokens=True).ids
        return ids[:limit]

    def decode(self, ids: Sequence[int], *, special_tokens: bool = False) -> str:
        """The text of token ids, special tokens left out unless they are wanted."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special_tokens)
        return text

    def token_text(self, token: int, before: Sequence[int]) -> str:
        """How a token reads after others, special tokens written out; the first of a text may lose its space."""
        start = self.decode(before[-CONTEXT:], special_tokens=True)
        text = self.decode([*before[-CONTEXT:], token], special_tokens=True)
        # In the middle of a character both end in the same replacement character, or the text loses it again.
        piece = text[len(start) :] if text.startswith(start) else ""
        return piece or self.decode([token], special_tokens=True)

    @cached_property
    def special_texts(self) -> Mapping[int, str]:
        """The special tokens, which `decode` leaves out, and how they are written."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {number: token.content for number, token in added.items() if token.special}


class Detokenizer:
    """Turns a growing list of token ids into text, piece by piece, never ending inside a character.

    Decodes a short window twice, without and with the new tokens, and shows the difference: a decoder may treat the
    first token of a text in its own way (drop its space), and both windows begin alike.

    Args:
        prompt: token ids before the text.
        special_tokens: write special tokens, too.
    """

    def __init__(self, codec: TextCodec, prompt: Sequence[int] = (), *, special_tokens: bool = False) -> None:
        self._decode = partial(codec.decode, special_tokens=special_tokens)
        self._ids = _context(codec, prompt)
        self._shown = len(self._ids)
        self._before = self._decode(self._ids)

    def push(self, token: int) -> str:
        """Add a token; returns the text that is complete now, often nothing."""
        self._ids.append(int(token))
        text = self._decode(self._ids)
        if len(text) <= len(self._before) or text.endswith(_REPLACEMENT):
            return ""
        return self._show(text)

    def flush(self) -> str:
        """The rest, when no more tokens come; bytes without their end become replacement characters."""
        text = self._decode(self._ids)
        if not text.startswith(self._before):
            # Unfinished bytes made the decoder read the ones before them in another way; those have been shown.
            return self._decode(self._ids[self._shown :])
        return self._show(text)

    def _show(self, text: str) -> str:
        piece = text[len(self._before) :]
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        self._before = self._decode(self._ids)
        return piece


def _context(codec: TextCodec, prompt: Sequence[int]) -> list[int]:
    """The last tokens of a prompt, from the beginning of a character on: a byte without those before it is no text."""
    tail: list[int] = []
    for size in range(CONTEXT, CONTEXT + _LONGEST_CHARACTER):
        tail = [int(token) for token in prompt[-size:]]
        if not codec.decode(tail).startswith(_REPLACEMENT):
            break
    return tail


def open_codec(folder: Path) -> TextCodec | None:
    """The tokenizer of an artifact, None when it has none; raises InputError when it cannot be read."""
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError("tokenizers", extra="cpu", needed_for="Text in and out of a model") from error
    try:
        return TextCodec(Tokenizer.from_file(str(path)))
    except Exception as error:  # the package raises plain Exception
        raise InputError(
            f"The tokenizer {path} cannot be read",
            received=error,
            allowed="a file of the tokenizers package",
            fix="Export the model again.",
        ) from error


def special_token_texts(folder: Path) -> dict[str, str]:
    """``bos_token``, ``eos_token`` and the like as ``tokenizer_config.json`` spells them; empty without the file."""
    return {
        name: text
        for name, value in read_tokenizer_config(folder).items()
        if name.endswith("_token")
        and isinstance(text := value.get("content") if isinstance(value, dict) else value, str)
    }


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """The contents of ``tokenizer_config.json``; empty without the file, InputError when it cannot be read."""
    path = folder / TOKENIZER_CONFIG
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{path} is not JSON",
            received=error,
            allowed="a JSON file as the export wrote it",
            fix="Export the model again.",
        ) from error
    return config if isinstance(config, dict) else {}
