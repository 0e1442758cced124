"""What stands in a prompt for an image: its mark becomes as many image tokens as it has rows of features.

Models write tokens around and between them, such as one at the end of each line. The text is built here and encoded by
the model's own tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.runtimes.images.preparation import Prepared


def marked_text(prepared: Prepared, rows: int, marks: Mapping[str, Any]) -> str:
    """The text that takes an image's mark's place.

    Args:
        rows: of features, in the order of the prompt.
        marks: ``token``, the text of the image token, and by the ``rule``: "run" has ``before`` and ``after`` all
            tokens; "lines" has ``between`` and ``after``, with as many lines as the image has rows; "tiles" has
            ``tile``, which may name ``{row}`` and ``{column}``, before each tile's tokens, ``line`` behind each line,
            ``whole`` before the whole image's, ``alone`` where there are no tiles, and ``after`` all, and it may have
            ``single``, what is before and behind the one tile of an image without a whole one; "numbered" is
            the same, with ``before`` all and a ``tile`` that may name ``{number}``, and no lines.
    """
    token, rule = str(marks["token"]), marks["rule"]
    if rule == "lines":
        lines = [token * (rows // prepared.rows)] * prepared.rows
        return str(marks["between"]).join(lines) + str(marks["after"])
    if rule == "tiles":
        return _tiled(prepared, rows, marks, token)
    if rule == "numbered":
        return _numbered(prepared, rows, marks, token)
    return str(marks["before"]) + token * rows + str(marks["after"])


def _numbered(prepared: Prepared, rows: int, marks: Mapping[str, Any], token: str) -> str:
    count = prepared.rows * prepared.columns
    count = count if count > 1 else 0  # one tile is the whole image
    tokens = token * (rows // (count + 1))
    tiles = [str(marks["tile"]).replace("{number}", str(number)) + tokens for number in range(1, count + 1)]
    return str(marks["before"]) + "".join(tiles) + str(marks["whole"]) + tokens + str(marks["after"])


def laid_out(text: str, mark: str, layout: Mapping[str, str]) -> str:
    """A prompt with ``before`` before it, ``mark`` behind its last mark, and ``end`` at its end."""
    head, last, tail = text.rpartition(mark)
    behind = layout["mark"] if last else ""
    return layout["before"] + head + last + behind + tail + layout["end"]


def _tiled(prepared: Prepared, rows: int, marks: Mapping[str, Any], token: str) -> str:
    count = prepared.rows * prepared.columns
    tokens = token * (rows // (count + 1))
    if not count:
        return str(marks["alone"]) + tokens + str(marks["after"])
    if count == 1 and "single" in marks:
        before, after = marks["single"]
        return str(before) + token * rows + str(after)
    text = ""
    for row in range(1, prepared.rows + 1):
        for column in range(1, prepared.columns + 1):
            named = str(marks["tile"]).replace("{row}", str(row)).replace("{column}", str(column))
            text += named + tokens
        text += str(marks["line"])
    return text + str(marks["whole"]) + tokens + str(marks["after"])
