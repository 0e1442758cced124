"""A text of any length as windows that a model can read, each of which shares some tokens with the one before it."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.text import TextCodec, check_unicode

# Tokens of a window of a model that reads texts of any length.
LONGEST_WINDOW = 512


def text_windows(codec: TextCodec, text: str, *, window: int, stride: int) -> list[Any]:
    """The windows of a text as the tokenizers package encodes them, special tokens included; one for a short text.

    Args:
        window: most tokens of each.
        stride: tokens that a window shares with the one before it.

    Raises:
        InputError: a text that is not Unicode, or a stride that leaves nothing new in a window.
    """
    check_unicode(text)
    tokenizer = codec.tokenizer
    room = window - tokenizer.num_special_tokens_to_add(is_pair=False)
    if isinstance(stride, bool) or not isinstance(stride, int) or not 0 <= stride < room:
        raise InputError(
            "Windows cannot share so many tokens",
            received=f"stride {shown(stride)} in windows with room for {max(0, room)} tokens of the text",
            allowed=f"0 to {max(0, room - 1)}",
            fix="Make stride smaller.",
        )
    whole = tokenizer.encode(text, add_special_tokens=False)
    if len(whole.ids) > room:
        whole.truncate(room, stride=stride)
    return [tokenizer.post_process(piece, None, add_special_tokens=True) for piece in [whole, *whole.overflowing]]
