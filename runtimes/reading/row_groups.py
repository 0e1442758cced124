"""Which texts go into one call: those of about one length, so that little of what is computed is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# One call takes at most so many rows, and so many tokens with the padding, of which at least this share is no padding.
# Four times the tokens are no faster (MiniLM: 61 texts of 256 tokens a second either way) and take 110 MB more.
_ROWS, _TOKENS, _FILLED = 32, 1024, 0.75
# Numbers that one call gives at most, where it gives some for each token: 256 MiB.
_NUMBERS = 1 << 26


def most_tokens(columns: int) -> int:
    """Tokens of one call with its padding, of a model that gives so many numbers for each of them."""
    return max(1, min(_TOKENS, _NUMBERS // columns))


def row_groups(lengths: Sequence[int], *, equal: bool, tokens: int = _TOKENS) -> Iterator[list[int]]:
    """Indices of the rows of each call, the longest first; rows of one call are of about, or exactly, one length.

    Args:
        lengths: of every row, in tokens.
        equal: rows of one call have to be of one length.
        tokens: of one call with its padding, at most; a longer row has a call of its own.
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[group[0]] if group else lengths[index]
        fits = len(group) < _ROWS and (len(group) + 1) * longest <= tokens
        alike = lengths[index] == longest if equal else lengths[index] >= _FILLED * longest
        if group and not (fits and alike):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
