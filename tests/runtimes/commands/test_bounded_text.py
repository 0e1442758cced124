"""Input without an end is refused, not held."""

from __future__ import annotations

import io

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands import bounded_text as room
from jisu.runtimes.commands.bounded_text import bounded_lines, bounded_text


class Endless(io.StringIO):
    """Zeros for ever; counts how many are requested."""

    requested = 0

    def readline(self, size: int | None = -1, /) -> str:
        assert size is not None and size > 0, "without a size it would never return"
        self.requested += size
        return "0" * size

    def read(self, size: int | None = -1, /) -> str:
        return self.readline(size)


def test_lines_of_any_number_keep_their_ends() -> None:
    assert list(bounded_lines(io.StringIO("a\n\nb"))) == ["a\n", "\n", "b"]
    assert bounded_text(io.StringIO("a\nb"), name="x") == "a\nb"


def test_what_has_no_end_is_refused() -> None:
    stream = Endless()
    with pytest.raises(InputError, match="Line 1 of the input is too long. Received: more than 16,777,216 char"):
        next(bounded_lines(stream))
    with pytest.raises(InputError, match="The text in x is too long"):
        bounded_text(stream, name="x")
    assert stream.requested == 2 * (room.LONGEST + 1)


def test_the_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LONGEST", 4)
    with pytest.raises(InputError, match="Line 2 of the input is too long.*'abcde'"):
        list(bounded_lines(io.StringIO("abcd"[:3] + "\nabcdefgh")))
