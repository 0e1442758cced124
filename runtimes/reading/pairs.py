"""Two texts as one row of token ids, with the types of its tokens, by the rules of the artifact's own tokenizer.

It never changes the tokenizer's settings, which threads share: texts are encoded without special tokens, shortened, and
then joined by the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import TextCodec, check_unicode

TextPair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class EncodedRows:
    """Token ids, and which text of a pair each token is of: 0 or 1."""

    rows: list[list[int]]
    types: list[list[int]]


def encode_texts(
    codec: TextCodec, texts: Sequence[str | TextPair], *, limit: int | None, truncate: bool, first: int = 0
) -> EncodedRows:
    """Token ids of texts and of pairs of them.

    Args:
        limit: most tokens of a row; None for any number.
        truncate: shorten what has more: a text at its end, of a pair the longer text until both are of one length.
        first: number of the first text, for the error.

    Raises:
        InputError: something too long that may not be shortened.
    """
    made = EncodedRows(rows=[], types=[])
    for index, text in enumerate(texts, start=first):
        if isinstance(text, str):
            row = codec.encode_rows([text], limit=limit, truncate=truncate, first=index)[0]
            made.rows.append(row)
            made.types.append([0] * len(row))
            continue
        encoded = encode_pair(codec, text, limit=limit, truncate=truncate, number=index)
        made.rows.append(encoded.ids)
        made.types.append(encoded.type_ids)
    return made


def encode_pair(codec: TextCodec, pair: TextPair, *, limit: int | None, truncate: bool, number: int = 0) -> Any:
    """A pair as the tokenizers package encodes it; raises InputError when it is too long and may not be shortened."""
    for text in pair:
        check_unicode(text)
    tokenizer = codec.tokenizer
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in pair)
    room = None if limit is None else limit - tokenizer.num_special_tokens_to_add(is_pair=True)
    lengths = len(first.ids), len(second.ids)
    if room is not None and sum(lengths) > room:
        if not truncate:
            raise InputError(
                "A pair of texts is too long for the model",
                received=f"{lengths[0]} and {lengths[1]} tokens in pair {number}",
                allowed=f"at most {room} in both",
                fix="Shorten one, or cut the longer one off: truncate=True, or --truncate.",
            )
        for encoding, length in zip((first, second), shortened_lengths(*lengths, max(0, room)), strict=True):
            encoding.truncate(length)
    return tokenizer.post_process(first, second, add_special_tokens=True)


def shortened_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text are kept: the longer one gives first, then both, of which the longer keeps one more.

    The rule "longest_first" of the tokenizers package.
    """
    if first + second <= room:
        return first, second
    short, long = sorted((first, second))
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)
