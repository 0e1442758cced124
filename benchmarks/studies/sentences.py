"""An error as one sentence of a table."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 220


def sentence(error: BaseException) -> str:
    """What an error says, on one line, cut off where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} ..."
    return text if text.endswith((".", "...")) else f"{text}."


def named(reason: str, checkpoint: Path) -> str:
    """The reason with a word for the checkpoint's path."""
    text = reason.replace(str(checkpoint), "the model")
    return text[:1].upper() + text[1:]
