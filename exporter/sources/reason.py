"""Puts another library's exception into words that fit into one of our sentences."""

from __future__ import annotations

_LONGEST = 300  # characters; some libraries print whole objects


def reason_of(error: BaseException) -> str:
    """The exception's name and text, on one line and cut to a readable length; of a missing key what is missing."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rstrip() + " ..."
    if isinstance(error, KeyError) and text:  # its text is the key alone
        return f"nothing under the key {text}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
