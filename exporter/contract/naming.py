"""How errors name what they received: a wrong value, a row of a batch."""

from __future__ import annotations

_SHOWN = 60  # characters of a wrong value in an error


def prompt_name(row: int, prompts: int) -> str:
    """How an error calls a row of a batch: its index where there are several."""
    return f"Prompt {row}" if prompts > 1 else "The prompt"


def shown(value: object) -> str:
    """A wrong value in an error, not longer than somebody reads."""
    try:
        # Of a long text only what is shown: its repr would take as much memory once more.
        text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    except ValueError:  # a number of more digits than Python writes
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
