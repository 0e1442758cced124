"""Special tokens in an answer: they have no text that is shown, but a stop string may be one, or hold one.

Each is one character in the text that stop strings are looked for in, which no text has, and is taken out afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_FIRST = 0xF0000  # in a plane for private use
_STAND_INS = re.compile(f"[{chr(_FIRST)}-{chr(0xFFFFD)}]")


class SpecialTokens:
    """The special tokens that some stop strings hold.

    Args:
        texts: of all special tokens, by their ids.
        stops: stop strings.
    """

    def __init__(self, texts: Mapping[int, str], stops: Sequence[str]) -> None:
        held = sorted({text for text in texts.values() if text and any(text in stop for stop in stops)}, key=len)
        stand_ins = {text: chr(_FIRST + index) for index, text in enumerate(held)}
        self._by_id = {number: stand_ins[text] for number, text in texts.items() if text in stand_ins}
        pattern = "|".join(re.escape(text) for text in reversed(held))
        changed = [re.sub(pattern, lambda match: stand_ins[match[0]], stop) for stop in stops] if held else []
        # An answer may also spell such a token in other tokens.
        self.stops = tuple(dict.fromkeys([*stops, *changed]))

    def mark(self, token: int) -> str:
        """What stands for a token in the text that is searched; nothing for one that no stop string holds."""
        return self._by_id.get(token, "") if self._by_id else ""

    def shown(self, text: str) -> str:
        """The text without what stands for special tokens."""
        return _STAND_INS.sub("", text) if self._by_id else text
